"""Train mini-clip 2: `python -m mirage_training.mini_clip.tune --work DIR --towers DIR`, after `prepare`.

Seeded and resumable: a step draws its views and texts from (seed, step), and the state is saved every few minutes. The image
tower's first stages stay as ImageNet left them; all else is tuned, the pretrained parts at lower rates.

`--begin CHECKPOINT` continues from a checkpoint of this training: its vocabulary and weights, while the heads learn first.
`--leave-out SOURCE` trains without a source of real images, and `--steps` shorter: `left_out` measures such runs.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional
from transformers import BertConfig, BertModel

from mirage_training.mini_clip import losses
from mirage_training.mini_clip.claims import Shown, image_table
from mirage_training.mini_clip.facts import Item, Text, truths
from mirage_training.mini_clip.joint import (
    CONTEXT,
    JointHeads,
    encode_features,
    pretrained_model,
    read_state,
    save_checkpoint,
)
from mirage_training.mini_clip.pool import Pool
from mirage_training.mini_clip.prepare import FROZEN, read_config
from mirage_training.mini_clip.queries import Shift, attribute_query, caption_query, shift_query, short_query
from mirage_training.mini_clip.towers import (
    cut_vocabulary,
    read_text_weights,
    read_vocabulary,
    text_config,
    tokenizer_json,
)
from mirage_training.mini_clip.unanswered import UNANSWERED, general_text, unanswered
from mirage_training.mini_clip.wordings import about, about_rendering

AVERAGE_EVERY = 4
SETTLED_FILE = "settled.json"


def all_facts(items: list[Item], least: int = 40) -> list[str]:
    """Facts that at least `least` items have, sorted."""
    counts: dict[str, int] = {}
    for item in items:
        for fact in item.facts:
            counts[fact] = counts.get(fact, 0) + 1
    return sorted(fact for fact, count in counts.items() if count >= least)


def used_tokens(items: list[Item], tokenizer: Tokenizer, count: int, seed: int) -> set[str]:
    """Tokens of MiniLM that our texts use."""
    rng = np.random.default_rng([seed, 77])
    used: set[str] = set()
    for _ in range(count):
        item = items[int(rng.integers(len(items)))]
        text = about_rendering(item, rng) if item.spec else about(item, rng)
        for each in (text.text, item.caption, unanswered(rng), general_text(rng)):
            used.update(tokenizer.encode(each).tokens)
    return used - {"[CLS]", "[SEP]", "[UNK]"}


def masked_contrast(cosines: Tensor, true: Tensor, known: Tensor, scale: Tensor) -> Tensor:
    """As `losses.contrast_loss`, without the pairs that are not known."""
    return losses.contrast_loss(cosines.masked_fill(~known, -1e4 / 100), true * known, scale)


def masked_sigmoid(cosines: Tensor, true: Tensor, known: Tensor, heads: JointHeads) -> Tensor:
    """Binary cross entropy of every known pair."""
    logits = cosines * heads.sigmoid[0] + heads.sigmoid[1]
    each = functional.binary_cross_entropy_with_logits(logits, true, reduction="none")
    return (each * (1.0 + 4.0 * true) * known).sum() / known.sum()


def mean_hidden(tower: Any, tokenizer: Tokenizer, texts: list[str], groups: int = 4) -> Tensor:
    """Mean of a BERT's last layer over the tokens of each text: [N, width]."""
    encoded = [each.ids for each in tokenizer.encode_batch(texts)]
    order = np.argsort([len(ids) for ids in encoded], kind="stable")
    parts = []
    for rows in np.array_split(order, min(groups, len(order))):
        longest = max(len(encoded[row]) for row in rows)
        ids = torch.tensor([encoded[row] + [0] * (longest - len(encoded[row])) for row in rows])
        out = tower(input_ids=ids, attention_mask=(ids != 0).long()).last_hidden_state
        weight = (ids != 0).unsqueeze(-1).to(out.dtype)
        parts.append((out * weight).sum(dim=1) / weight.sum(dim=1))
    return torch.cat(parts)[torch.from_numpy(np.argsort(order, kind="stable"))]


def checkpoint_digest(folder: Path) -> str:
    """The SHA-256 of a checkpoint's weights, in hexadecimal digits. Raises ValueError if the folder has none."""
    weights = folder / "open_clip_model.safetensors"
    if not weights.is_file() or not (folder / "tokenizer.json").is_file():
        raise ValueError(f"{folder} has no checkpoint")
    return hashlib.sha256(weights.read_bytes()).hexdigest()


def settle(
    path: Path, pool: Pool, tokens: list[str], config: dict[str, Any], begin: Path | None
) -> tuple[list[str], list[str]]:
    """Returns vocabulary and facts of a run, written once into a file so that a resumed run has the same.

    Raises ValueError if the run was begun without other sources than the pool or with another checkpoint.
    """
    left_out = sorted(pool.left_out)
    digest = None if begin is None else checkpoint_digest(begin)
    if not path.exists():
        if begin is not None:
            vocabulary = Tokenizer.from_file(str(begin / "tokenizer.json")).get_vocab()
            kept = sorted(vocabulary, key=lambda token: vocabulary[token])
        else:
            whole = Tokenizer.from_str(tokenizer_json(tokens))
            used = used_tokens(pool.items, whole, 6000, config["seed"])
            kept = cut_vocabulary(tokens, used, config["towers"]["first_words"])
        settled = {"kept": kept, "facts": all_facts(pool.items), "left_out": left_out, "begin": digest}
        path.write_text(json.dumps(settled), "utf-8")
    stated = json.loads(path.read_text("utf-8"))
    begun = stated.get("left_out", [])
    if begun != left_out:
        before, now = (", ".join(each) or "nothing" for each in (begun, left_out))
        raise ValueError(f"the run in {path.parent} was begun with {before} left out, not {now}: choose another folder")
    if stated.get("begin") != digest:
        raise ValueError(
            f"the run in {path.parent} was begun with another --begin or without: give the same one, or choose another folder"
        )
    return stated["kept"], stated["facts"]


def draw_texts(items: list[Item], rng: np.random.Generator) -> tuple[list[Text], list[Shift]]:
    """Texts about some images, and the arithmetic ones among them: base queries, then targets, at the end."""
    texts: list[Text] = []
    specs = [item.spec for item in items if item.spec]
    for item in items:
        if item.spec:
            roll = rng.random()
            if roll < 0.62:
                texts.append(about_rendering(item, rng))
            elif roll < 0.86:
                query = short_query(item.spec, rng)
                texts.append(Text(query.text, frozenset(), query.claim))
            else:
                query = caption_query(item.spec, rng)
                texts.append(Text(query.text, frozenset({"modality:mr", "body:brain"}), query.claim))
        elif "kind:other" not in item.facts:
            if item.caption and rng.random() < 0.2:
                texts.append(Text(item.caption, frozenset(f for f in item.facts if f.split(":")[0] in CAPTION_FACTS)))
            else:
                texts.append(about(item, rng))
    texts += [Text(unanswered(rng), UNANSWERED) for _ in range(9)]
    queries = [attribute_query(rng) for _ in range(4)]
    # Words for a plane or contrast alone are true of other images too.
    texts += [as_text(query.text, query.claim) for query in queries]
    shifts = [shift_query(specs[int(i)], rng) for i in rng.choice(len(specs), 6, replace=False)]
    texts += [Text(shift.base.text, frozenset(), shift.base.claim) for shift in shifts]
    texts += [Text(shift.target.text, frozenset(), shift.target.claim) for shift in shifts]
    return texts, shifts


def loss_parts(
    items: list[Item], texts: list[Text], shifts: list[Shift], images: Tensor, units: Tensor, heads: JointHeads,
    facts: list[str], scale: Tensor,
) -> dict[str, Tensor]:  # fmt: skip
    """Returns the parts of the loss.

    `images` are unit vectors [items, dim]. `units` are those of the texts, which end with base and target of each shift, then of
    what each shift takes away and of what it adds: [texts + 2 shifts, dim].
    """
    count, kept = len(shifts), len(texts)
    targets = [Text("", frozenset(), shift.target.claim) for shift in shifts]
    true_array, known_array = truths(texts + targets, items)
    true, known = torch.from_numpy(true_array), torch.from_numpy(known_array)
    fact_array, asked_array = truths([Text("", frozenset({fact})) for fact in facts], items)
    shown, asked = torch.from_numpy(fact_array.T.copy()), torch.from_numpy(asked_array.T.copy())
    minus, plus = units[kept : kept + count], units[kept + count :]
    units = units[:kept]
    base, wanted = units[kept - 2 * count : kept - count], units[kept - count : kept]
    composed = functional.normalize(base - minus + plus, dim=-1)
    cosines = torch.cat([units, composed]) @ images.T
    table = image_table([Shown(spec=item.spec) for item in items])
    brain = torch.tensor([item.spec is not None for item in items])
    rows = [n for n, text in enumerate(texts) if text.claim is not None]
    claims = [text.claim for text in texts if text.claim is not None]
    image_targets = losses.image_targets(table)
    image_targets = losses.Targets(
        {name: torch.where(brain, value, losses.IGNORED) for name, value in image_targets.groups.items()},
        image_targets.level,
    )
    text_targets = losses.text_targets(claims)
    level = losses.level_bin_loss(heads.read_level_bins(images), image_targets.level)
    level = level + losses.level_bin_loss(heads.read_level_bins(units[rows]), text_targets.level)
    read = heads.read_facts(images)
    fact_loss = functional.binary_cross_entropy_with_logits(read, shown, reduction="none")
    return {
        "text": masked_contrast(cosines, true, known, scale),
        "image": 0.5 * masked_contrast(cosines[:kept].T, true[:kept].T, known[:kept].T, scale),
        "sigmoid": 2.0 * masked_sigmoid(cosines, true, known, heads),
        "facts": 6.0 * (fact_loss * asked * (1.0 + 3.0 * shown)).sum() / asked.sum(),
        "brain": 0.4 * losses.attribute_loss(heads, images, image_targets),
        "lesion_side": 1.5 * losses.lesion_side_loss(heads, images, table),
        "text_heads": 0.2 * losses.attribute_loss(heads, units[rows], text_targets),
        "level": level,
        "arithmetic": 1.0 * (1.0 - (composed * wanted).sum(dim=-1)).mean(),
    }


class Trainer:
    """The state of one run."""

    def __init__(self, pool: Pool, towers: Path, work: Path, config: dict[str, Any], begin: Path | None = None) -> None:
        self.config = config["train"]
        self.seed = config["seed"]
        torch.manual_seed(self.seed)
        self.pool = pool
        layers = tuple(config["towers"]["text_layers"])
        self.layers, self.dimension = len(layers), config["towers"]["dimension"]
        tokens = read_vocabulary(towers)
        self.kept, self.facts = settle(work / SETTLED_FILE, pool, tokens, config, begin)
        self.heads_alone = self.config["warm_up"] if begin else 0
        self.tokenizer = Tokenizer.from_str(tokenizer_json(self.kept))
        self.tokenizer.enable_truncation(CONTEXT)
        self.model = pretrained_model(towers, layers=layers, kept=self.kept, dimension=self.dimension)
        if begin is not None:
            try:
                self.model.load_state_dict(read_state(begin))
            except RuntimeError as error:
                raise ValueError(f"{begin} is not a checkpoint of this configuration") from error
        self.model.eval()
        self.heads = JointHeads(self.dimension, self.facts)
        # The words keep their places: what a word means is known already.
        self.model.text.transformer.embeddings.word_embeddings.requires_grad_(False)
        self.teacher = BertModel(BertConfig(**text_config(6, len(tokens))), add_pooling_layer=False).eval()
        self.teacher.load_state_dict(read_text_weights(towers, layers=tuple(range(6)), kept=tokens))
        self.teacher_tokenizer = Tokenizer.from_str(tokenizer_json(tokens))
        self.teacher_tokenizer.enable_truncation(CONTEXT)
        for name, parameter in self.model.visual.trunk.body.named_parameters():
            parameter.requires_grad_(
                not name.startswith(("conv_stem", "bn1", *(f"blocks.{n}." for n in range(FROZEN))))
            )
        text, image = [], []
        for name, parameter in self.model.named_parameters():
            if not parameter.requires_grad:
                continue
            if name.startswith("text.transformer"):
                text.append(parameter)
            elif name.startswith("visual.trunk.body"):
                image.append(parameter)
        known = {id(each) for each in text + image}
        rest = [p for p in self.model.parameters() if p.requires_grad and id(p) not in known]
        self.optimiser = torch.optim.AdamW(
            [
                {"params": text, "rate": self.config["text_rate"], "weight_decay": 0.01},
                {"params": image, "rate": self.config["image_rate"], "weight_decay": 0.02},
                {"params": rest, "rate": self.config["head_rate"], "weight_decay": 0.01},
                {"params": list(self.heads.parameters()), "rate": self.config["head_rate"], "weight_decay": 0.01},
            ],
            betas=(0.9, 0.98),
            fused=True,
        )
        self.step, self.seconds = 0, 0.0
        self.average = {name: value.detach().clone() for name, value in self.model.state_dict().items()}

    def rate_factor(self, heads: bool) -> float:
        """Warm-up, constant, then linear to 2 % over the last steps.

        After `begin`, the heads learn alone at first.
        """
        if not heads and self.step < self.heads_alone:
            return 0.0
        warm = min(1.0, (self.step + 1 - (0 if heads else self.heads_alone)) / self.config["warm_up"])
        left = (self.config["steps"] - self.step) / self.config["decay"]
        return float(warm * max(min(1.0, left), 0.02))

    def hidden(self, texts: list[str]) -> Tensor:
        """Mean of the last layer over the tokens: float32 [N, 384]. Texts of like length share an inference."""
        return mean_hidden(self.model.text.transformer, self.tokenizer, texts)

    def run_step(self) -> dict[str, float]:
        """One optimiser step; gives the parts of the loss."""
        rng = np.random.default_rng([self.seed, self.step])
        chosen = self.pool.draw(self.config["batch"], rng, self.config["close"])
        items = [self.pool.items[index] for index in chosen]
        features = self.pool.features(chosen).to(memory_format=torch.channels_last)
        texts, shifts = draw_texts(items, rng)
        general = [
            general_text(rng) if rng.random() < 0.5 else texts[int(rng.integers(len(texts)))].text for _ in range(12)
        ]
        words = [t.text for t in texts] + [s.minus for s in shifts] + [s.plus for s in shifts] + general
        heads = self.optimiser.param_groups[-1]
        for group in self.optimiser.param_groups:
            group["lr"] = group["rate"] * self.rate_factor(group is heads)
        # The text tower is tuned in float32: backward in bfloat16 took longer.
        hidden = self.hidden(words)
        text_raw = self.model.text.proj(hidden)
        with torch.autocast("cpu", torch.bfloat16):
            image_raw = encode_features(self.model, features)
            with torch.no_grad():
                wanted_hidden = mean_hidden(self.teacher, self.teacher_tokenizer, general)
        wanted_hidden = wanted_hidden.float()
        images = functional.normalize(image_raw.float(), dim=-1)
        units = functional.normalize(text_raw.float(), dim=-1)
        scale = self.model.logit_scale.exp().clamp(max=100.0)
        units = units[: len(texts) + 2 * len(shifts)]
        parts = loss_parts(items, texts, shifts, images, units, self.heads, self.facts, scale)
        parts["teacher"] = (
            1.5 * (1.0 - functional.cosine_similarity(hidden[-len(general) :].float(), wanted_hidden)).mean()
        )
        loss = torch.stack(list(parts.values())).sum()
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_([p for group in self.optimiser.param_groups for p in group["params"]], 1.0)
        self.optimiser.step()
        self.step += 1
        if self.step % AVERAGE_EVERY == 0:
            keep = min(0.98, self.step / (self.step + 40.0))
            with torch.no_grad():
                for name, value in self.model.state_dict().items():
                    if value.is_floating_point():
                        self.average[name].lerp_(value, 1.0 - keep)
        return {name: float(value.detach()) for name, value in parts.items()} | {"scale": float(scale.detach())}

    def save(self, folder: Path) -> None:
        """Writes the state, whole or not at all, and the averaged weights as a checkpoint."""
        state = {
            "model": self.model.state_dict(), "heads": self.heads.state_dict(), "optimiser": self.optimiser.state_dict(),
            "average": self.average, "step": self.step, "seconds": self.seconds,
        }  # fmt: skip
        torch.save(state, folder / "state.part")
        (folder / "state.part").replace(folder / "state.pt")
        save_checkpoint(
            self.average, folder / "checkpoint", kept=self.kept, layers=self.layers, dimension=self.dimension
        )

    def resume(self, folder: Path) -> None:
        """Continues from the state in a folder. Raises ValueError if it is not one of this code."""
        state = torch.load(folder / "state.pt", weights_only=True)
        try:
            self.model.load_state_dict(state["model"])
            self.heads.load_state_dict(state["heads"])
            self.optimiser.load_state_dict(state["optimiser"])
        except (RuntimeError, ValueError) as error:
            raise ValueError(f"the run in {folder} was begun with other code: choose another folder") from error
        self.average, self.step, self.seconds = state["average"], state["step"], state["seconds"]


CAPTION_FACTS = ("modality", "body", "finding", "plane")


def as_text(text: str, claim: Any) -> Text:
    """A query of one attribute; a plane or contrast alone is a fact that other images share."""
    if claim.but(plane=None, sequence=None) == type(claim)():
        facts = [f"plane:{claim.plane}"] if claim.plane else []
        facts += [f"sequence:{claim.sequence}"] if claim.sequence else []
        return Text(text, frozenset(facts))
    return Text(text, frozenset(), claim)


def shortened(config: dict[str, Any], steps: int) -> dict[str, Any]:
    """The configuration for another number of steps: the rates fall over the same share of them."""
    train = config["train"]
    decay = max(1, round(train["decay"] * steps / train["steps"]))
    return config | {"train": train | {"steps": steps, "decay": decay}}


def main(argv: list[str] | None = None) -> None:
    """Run or resume a training."""
    parser = argparse.ArgumentParser(prog="python -m mirage_training.mini_clip.tune", description=__doc__)
    parser.add_argument(
        "--work", type=Path, required=True, help="folder of `prepare`; state, log and checkpoint are put into it"
    )
    parser.add_argument("--views", type=Path, help="folder of the views, if it is not `views` in the work folder")
    parser.add_argument(
        "--leave-out", action="append", default=[], metavar="SOURCE", help="a source of real images; can be repeated"
    )
    parser.add_argument("--begin", type=Path, metavar="CHECKPOINT", help="a checkpoint to continue from")
    parser.add_argument("--steps", type=int, help="number of steps, if not that of the configuration")
    parser.add_argument("--towers", type=Path, required=True, help="folder with the archives of the two towers")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--save-every-s", type=float, default=180.0)
    arguments = parser.parse_args(argv)
    torch.set_num_threads(arguments.threads)
    config = read_config()
    if arguments.steps is not None:
        if arguments.steps < 1:
            parser.error("--steps must be 1 or more")
        config = shortened(config, arguments.steps)
    if arguments.begin and config["train"]["steps"] <= config["train"]["warm_up"]:
        parser.error(
            f"with --begin, --steps must be more than {config['train']['warm_up']}: the heads learn alone for so many"
        )
    arguments.work.mkdir(parents=True, exist_ok=True)
    try:
        views = arguments.views or arguments.work / "views"
        pool = Pool(views, config["views"]["shards"], arguments.leave_out)
        trainer = Trainer(pool, arguments.towers, arguments.work, config, arguments.begin)
        if (arguments.work / "state.pt").exists():
            trainer.resume(arguments.work)
    except ValueError as error:
        parser.error(str(error))
    saved, window = time.monotonic(), []
    with (arguments.work / "log.jsonl").open("a", encoding="utf-8") as log:
        while trainer.step < trainer.config["steps"]:
            start = time.monotonic()
            window.append(trainer.run_step())
            trainer.seconds += time.monotonic() - start
            if trainer.step % 20 == 0:
                means = {name: round(float(np.mean([each[name] for each in window])), 4) for name in window[0]}
                line = {"step": trainer.step, "seconds": round(trainer.seconds), "views": len(pool.items), **means}
                log.write(json.dumps(line) + "\n")
                log.flush()
                window = []
                pool.grow()
            if time.monotonic() - saved > arguments.save_every_s:
                trainer.save(arguments.work)
                saved = time.monotonic()
    trainer.save(arguments.work)


if __name__ == "__main__":
    main()
