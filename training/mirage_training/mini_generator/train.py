"""Train the mini generator: `python -m mirage_training.mini_generator.train --work DIR --out DIR`. Seeded and
resumable.

Pictures are rendered, the autoencoder is trained on them, their latents are kept, its decoder is made sharp, a diffusion
model is trained on the latents, its trajectories from noise to an image are kept, and a latent consistency model learns to
shorten them. What is done is found in the work folder and not done again. With `--begin` the autoencoder and the UNet
are those of a generator that was trained before.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from mirage_training.mini_clip.batches import SectionSource
from mirage_training.mini_clip.towers import IMAGE_ARCHIVE
from mirage_training.mini_clip.workfolder import cached_template
from mirage_training.mini_generator.agreement import (
    Guide,
    Texts,
    agreement_stage,
    right_trajectories,
    train_agreement,
)
from mirage_training.mini_generator.autoencoder import autoencoder_stage, train_autoencoder
from mirage_training.mini_generator.decoder import decoder_stage, perception, train_decoder
from mirage_training.mini_generator.diffusion import Examples, diffusion_stage, train_diffusion
from mirage_training.mini_generator.distillation import distillation_stage, train_distillation
from mirage_training.mini_generator.finder import finder_stage, train_finder
from mirage_training.mini_generator.folder import write_trained
from mirage_training.mini_generator.latents import encoded, encoded_mirrored, standardise
from mirage_training.mini_generator.pictures import rendered
from mirage_training.mini_generator.recipe import Recipe, continued
from mirage_training.mini_generator.stage import Pace
from mirage_training.mini_generator.text_tower import Prompts, load_text_tower
from mirage_training.mini_generator.trajectories import travelled
from mirage_training.mini_generator.vocabulary import draws

if TYPE_CHECKING:
    from collections.abc import Callable

STAGES = ("autoencoder", "decoder", "diffusion", "distillation", "finder", "agreement")


def train(
    work: Path,
    recipe: Recipe,
    *,
    paces: dict[str, Pace] | None = None,
    make_source: Callable[[], SectionSource] | None = None,
    begin: Path | None = None,
    out: Path | None = None,
    only: str = "",
    towers: Path | None = None,
) -> bool:
    """Trains in `work` from its last state, each stage up to the step that its pace names.

    Returns True after the last stage. `begin`: the checkpoint of a generator whose networks are begun with. `only`: end
    after this stage. `towers`: folder of the archive of EfficientNet-Lite0, whose features the decoder then learns to keep.
    The decoder's stage and those of the UNet can so run next to each other. The checkpoint is written
    at `out` at the end.
    """
    work.mkdir(parents=True, exist_ok=True)
    paces = paces or {}
    pace = {stage: paces.get(stage, Pace()) for stage in STAGES}
    pictures = rendered(
        work / "pictures",
        make_source or (lambda: SectionSource(cached_template(work))),
        count=recipe.pictures,
        seed=recipe.seed,
    )
    first = autoencoder_stage(work, recipe, begin)
    if not train_autoencoder(first, pictures, recipe, pace["autoencoder"]):
        return False
    autoencoder = first.averaged()
    latents = encoded(work / "latents.pt", pictures, autoencoder)
    decoder = decoder_stage(work, recipe, autoencoder)
    if only in ("", "decoder"):
        perceive = perception(towers) if towers else None
        sharp = train_decoder(decoder, pictures, latents, recipe, pace["decoder"], perceive)
        if only or not sharp:
            return sharp
    turned = encoded_mirrored(work / "mirrored.pt", pictures, decoder.averaged())
    examples = Examples(latents, turned, pictures.specs, Prompts(load_text_tower()))
    second = diffusion_stage(work, recipe, begin)
    if not train_diffusion(second, examples, recipe, pace["diffusion"]):
        return False
    if only == "diffusion":
        return True
    teacher = second.averaged()
    trajectories = travelled(work / "trajectories", teacher, examples, recipe)
    third = distillation_stage(work, recipe, teacher)
    if not train_distillation(third, trajectories, recipe, pace["distillation"]):
        return False
    looking = finder_stage(work, recipe)
    if not train_finder(looking, pictures, recipe, pace["finder"]):
        return False
    guide = Guide.of(decoder.averaged(), looking.averaged())
    last = agreement_stage(work, recipe, third.averaged())
    if not last.done:
        right = right_trajectories(work / "seen.pt", trajectories, guide)
        texts = Texts.of(pictures, examples.prompts)
        if not train_agreement(last, trajectories, right, texts, guide, recipe, pace["agreement"]):
            return False
    if out is not None:
        drawn = draws(pictures.specs, recipe)
        write_trained(out, autoencoder=decoder.averaged(), unet=last.averaged(), recipe=recipe, draws=drawn)
    return True


def snapshot(work: Path, recipe: Recipe, out: Path) -> str:
    """Write the checkpoint as it would be were the run to end now; gives what its UNet is: a stage and its step.

    Before anything is distilled that is the diffusion model, whose images in a few steps are soft. Raises
    FileNotFoundError before there is one.
    """
    autoencoder = autoencoder_stage(work, recipe).averaged()
    stored = torch.load(work / "latents.pt", weights_only=True)
    standardise(autoencoder, stored["mean"], stored["spread"])
    autoencoder = decoder_stage(work, recipe, autoencoder).averaged()
    second = diffusion_stage(work, recipe)
    if not second.step:
        raise FileNotFoundError("nothing of the diffusion model is there yet")
    teacher = second.averaged()
    third = distillation_stage(work, recipe, teacher)
    unet, found = third.averaged(), third if third.step else second
    last = agreement_stage(work, recipe, third.averaged())
    if last.step:
        unet, found = last.averaged(), last
    specs = rendered(
        work / "pictures", lambda: SectionSource(cached_template(work)), count=recipe.pictures, seed=recipe.seed
    ).specs
    write_trained(out, autoencoder=autoencoder, unet=unet, recipe=recipe, draws=draws(specs, recipe))
    return f"{found.name}, step {found.step}"


def main(arguments: list[str] | None = None) -> int:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(prog="python -m mirage_training.mini_generator.train", description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder for pictures, latents and states")
    parser.add_argument("--out", type=Path, help="write the checkpoint here at the end")
    parser.add_argument("--begin", type=Path, help="checkpoint of a generator whose networks are begun with")
    parser.add_argument("--only", choices=("decoder", "diffusion"), default="", help="end after this stage")
    parser.add_argument(
        "--towers", type=Path, help="folder with the archive of the image tower that mini-clip begins with"
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--snapshot", action="store_true", help="write the checkpoint of what there is and train no further"
    )
    parsed = parser.parse_args(arguments)
    if parsed.snapshot and parsed.out is None:
        parser.error("--snapshot needs --out")
    if parsed.towers and not (parsed.towers / IMAGE_ARCHIVE).is_file():
        parser.error(f"--towers: {IMAGE_ARCHIVE} is not in {parsed.towers}")
    torch.set_num_threads(parsed.threads)
    recipe = continued(Recipe()) if parsed.begin else Recipe()
    if parsed.snapshot:
        print(json.dumps({"written": snapshot(parsed.work, recipe, parsed.out)}))
        return 0
    print(json.dumps(asdict(recipe)), flush=True)
    train(parsed.work, recipe, begin=parsed.begin, out=parsed.out, only=parsed.only, towers=parsed.towers)
    return 0


if __name__ == "__main__":
    sys.exit(main())
