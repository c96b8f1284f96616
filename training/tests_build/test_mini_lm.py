"""The mini language model's data and training: what explanations claim, what the check finds, and that a stopped run goes on."""

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from transformers import GPTNeoXForCausalLM

from mirage_training.mini_lm import facts, tune
from mirage_training.mini_lm.captions import OTHER_PARTS
from mirage_training.mini_lm.check import check, split
from mirage_training.mini_lm.explanations import Composition, example
from mirage_training.mini_lm.heldout import heldout_examples, is_held_out, training_examples
from mirage_training.mini_lm.roco import Row
from mirage_training.mini_lm.tokens import SPECIAL, VOCABULARY, train_tokenizer
from mirage_training.mini_lm.train import Recipe, Round, batch, export, train


@pytest.mark.parametrize("grouped", [False, True])
def test_every_sentence_of_an_explanation_agrees_with_its_captions(grouped: bool) -> None:
    rng = np.random.default_rng(5)
    for _ in range(500):
        made = example(rng, Composition(grouped=grouped))
        verdicts = check(made.text, made.seen)
        assert tuple(verdict.sentence for verdict in verdicts) == made.sentences
        assert [verdict for verdict in verdicts if not verdict.agrees] == []


def test_each_image_has_a_sentence_of_its_own_where_they_differ() -> None:
    together = 0
    for made in islice(heldout_examples(np.random.default_rng(10)), 200):
        starts = [sentence.split(" image")[0] for sentence in made.sentences]
        if starts[0] in {"All three", "Both"}:
            together += 1
            assert len({(seen.plane, seen.section_side, seen.sequence) for seen in made.seen}) == 1
        elif len(made.seen) > 1:
            assert starts[: len(made.seen)] == ["The first", "The second", "The third"][: len(made.seen)]
    assert together


def test_sentences_of_another_example_mostly_do_not_agree() -> None:
    rng = np.random.default_rng(6)
    verdicts = [verdict for _ in range(300) for verdict in check(example(rng).text, example(rng).seen)]
    assert np.mean([verdict.agrees for verdict in verdicts]) < 0.4


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("left", "right"),
        ("hyperintense", "hypointense"),
        ("axial", "coronal"),
        ("T1-weighted", "T2-weighted"),
        ("first", "second"),
    ],
)
def test_one_wrong_word_is_found(right: str, wrong: str) -> None:
    rng = np.random.default_rng(7)
    tried = 0
    while tried < 20:
        made = example(rng)
        for sentence in made.sentences:
            if right not in sentence or sentence in facts.sentences() or wrong in sentence:
                continue
            tried += 1
            changed = sentence.replace(right, wrong)
            if check(changed, made.seen)[0].agrees:
                # True by chance: another image of the same captions is just so.
                assert right == "first"


def test_what_cannot_be_read_does_not_agree() -> None:
    made = example(np.random.default_rng(8))
    for text in ("It is a nice picture.", "The fourth image is FLAIR.", "### End"):
        assert not check(text, made.seen)[0].agrees
    assert split("") == ()


def test_training_never_meets_what_is_held_out() -> None:
    rng = np.random.default_rng(9)
    assert not any(is_held_out(seen) for made in islice(training_examples(rng), 300) for seen in made.seen)
    assert all(is_held_out(made.seen[0]) for made in islice(heldout_examples(rng), 50))


def test_the_tokenizer_has_dollys_special_tokens_and_splits_digits(tmp_path: Path) -> None:
    tokenizer = train_tokenizer(1, examples=200)
    assert [tokenizer.token_to_id(token) for token in SPECIAL] == [0, 1, 2, 3]
    assert tokenizer.get_vocab_size() <= VOCABULARY
    encoded = tokenizer.encode("lesion of 27 mm\n\n### End")
    assert encoded.ids[-1] == SPECIAL.index("### End")
    assert "2" in encoded.tokens
    assert "27" not in encoded.tokens
    assert tokenizer.decode(tokenizer.encode("äöü ☃ 12").ids) == "äöü ☃ 12"


ROUNDS = (Round(3, 1e-3, 0.1, Composition(grouped=True)), Round(1, 5e-4, 0.0, Composition()))


def test_a_stopped_training_goes_on_as_if_nothing_had_happened(tmp_path: Path) -> None:
    torch.set_num_threads(2)
    small = {"batch": 2, "hidden": 32, "layers": 1, "heads": 2, "warmup": 2}
    train_tokenizer(Recipe.seed, examples=200).save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "tokenizer.json").write_bytes((tmp_path / "tokenizer.json").read_bytes())
    whole = train(tmp_path, Recipe(rounds=ROUNDS, **small), save_every=2)
    # Stopped after two of four steps: the rate of learning is that of the whole run.
    train(tmp_path / "other", Recipe(rounds=ROUNDS, **small), save_every=2, stop_at=2)
    resumed = train(tmp_path / "other", Recipe(rounds=ROUNDS, **small), save_every=2)
    for first, second in zip(whole.parameters(), resumed.parameters(), strict=True):
        torch.testing.assert_close(first, second, rtol=0, atol=0)


def test_a_batch_depends_on_its_step_alone() -> None:
    tokenizer = train_tokenizer(1, examples=200)
    recipe = Recipe(batch=3)
    first, again, other = (batch(tokenizer, recipe, step) for step in (5, 5, 6))
    np.testing.assert_array_equal(first[0], again[0])
    assert first[0].shape != other[0].shape or (first[0] != other[0]).any()
    assert set(np.unique(first[1]).round(3)) <= {np.float32(0), np.float32(0.1), np.float32(1)}


SMALL = {"hidden": 32, "layers": 1, "heads": 2, "warmup": 2, "batch": 2}


def start(folder: Path) -> Path:
    """A tiny checkpoint to begin with."""
    train_tokenizer(1, examples=200).save(str(folder / "tokenizer.json"))
    model = train(folder, Recipe(rounds=ROUNDS, **SMALL), stop_at=1)
    export(model, folder, folder / "start")
    return folder / "start"


def real_rows() -> list[Row]:
    captions = (f"{plane} CT of the {part} showing a mass." for plane in ("Axial", "Coronal") for part in OTHER_PARTS)
    return [Row(f"r{number}", caption, f"PMC{number}", ("mass",)) for number, caption in enumerate(captions)]


def test_tuning_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    torch.set_num_threads(2)
    first, rows = start(tmp_path), real_rows()
    recipe = tune.Recipe(steps=3, batch=2, warmup=1, decay=2)
    whole = tune.tune(tmp_path / "a", first, rows, recipe, save_every=2)
    tune.tune(tmp_path / "b", first, rows, recipe, save_every=2, stop_at=2)
    resumed = tune.tune(tmp_path / "b", first, rows, recipe, save_every=2)
    for one, other in zip(whole.parameters(), resumed.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_another_tokenizer_keeps_what_its_tokens_meant(tmp_path: Path) -> None:
    torch.set_num_threads(2)
    first = start(tmp_path)
    old = Tokenizer.from_file(str(first / "tokenizer.json"))
    new = tune.new_tokenizer(tune.Recipe(), real_rows())
    model = GPTNeoXForCausalLM.from_pretrained(first, dtype=torch.float32)
    before = model.gpt_neox.embed_in.weight.detach().clone()
    tune.graft(model, old, new)
    after = model.gpt_neox.embed_in.weight.detach()
    word = " section"
    [token] = new.encode(word).ids
    torch.testing.assert_close(after[token], before[old.encode(word).ids].mean(dim=0))
    torch.testing.assert_close(after[: len(SPECIAL)], before[: len(SPECIAL)])


def test_a_tuning_batch_depends_on_its_step_alone_and_answers_fit() -> None:
    recipe, rows = tune.Recipe(batch=3), real_rows()
    tokenizer = tune.new_tokenizer(recipe, rows)
    one, again, other = (tune.batch(tokenizer, recipe, rows, step) for step in (5, 5, 6))
    np.testing.assert_array_equal(one[0], again[0])
    assert one[0].shape != other[0].shape or (one[0] != other[0]).any()
    assert (one[1] == 1).sum(axis=1).max() <= recipe.answer_tokens + 8


def test_the_rate_rises_stays_and_falls() -> None:
    recipe = tune.Recipe(steps=100, warmup=10, decay=20)
    rates = [tune.learning_rate(recipe, step) / recipe.rate for step in (0, 9, 50, 79, 99)]
    assert rates == pytest.approx([0.1, 1.0, 1.0, 1.0, 0.0975])


def test_tuning_on_another_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("not json\n")
    with pytest.raises(SystemExit):
        tune.main(["--roco", str(tmp_path / "a"), "--start", str(tmp_path), "--work", str(tmp_path / "work")])
