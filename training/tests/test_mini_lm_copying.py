"""Answers that rules compose of captions, and the captions that the mini llm may learn from."""

import json
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from mirage_inference.llm.citations import supporting
from mirage_training.mini_lm import clauses, learnt, roco
from mirage_training.mini_lm.exercises import exercises, volume_examples
from mirage_training.mini_lm.facts import sentences as facts
from mirage_training.mini_lm.roco import composed, examples, held_out, learnt_from, read


@pytest.mark.parametrize(
    ("caption", "said"),
    [
        (
            "Axial CT of the abdomen showing a 4 cm cyst (arrow) of the left kidney.",
            ["The image is an axial CT of the abdomen.", "The image shows a 4 cm cyst of the left kidney."],
        ),
        (
            "Chest radiograph without effusion. There is no pneumothorax. Arrows mark the drain.",
            ["The image is a chest radiograph without effusion.", "There is no pneumothorax."],
        ),
        ("Possible fracture of the radius.", ["The image shows possible fracture of the radius."]),
        ("MRI of the knee: torn meniscus.", ["The image is an MRI of the knee.", "The image shows torn meniscus."]),
        ("Plain radiographs of both hands.", ["The image shows plain radiographs of both hands."]),
        ("Figure 2. See text.", []),
        ("→", []),
    ],
)
def test_sentences_are_taken_out_of_a_caption_in_its_own_words(caption: str, said: list[str]) -> None:
    assert clauses.sentences(caption, 0, 1, most=4) == said


def test_a_long_list_of_structures_is_cut_and_images_are_numbered() -> None:
    caption = (
        "Coronal CT of the chest, showing the heart, the aorta, the trachea, the liver, the spleen and the sternum."
    )
    assert clauses.sentences(caption, 1, 2, most=2) == [
        "The second image is a coronal CT of the chest.",
        "The second image shows the heart, the aorta, the trachea and the liver.",
    ]


def test_with_room_for_one_sentence_it_says_what_is_seen() -> None:
    [said] = clauses.sentences("Axial CT of the brain showing a bleed in the pons.", 0, 1, most=1)
    assert said == "The image shows a bleed in the pons."


def test_each_answer_is_supported_and_has_no_fact() -> None:
    rng = np.random.default_rng(3)
    for made in islice(exercises(rng), 40):
        assert not facts() & set(made.sentences)
    for made in islice(volume_examples(rng), 40):
        assert all(supporting(sentence, made.captions) for sentence in made.sentences)


def written(path: Path, *rows: dict[str, object]) -> Path:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), "utf-8")
    return path


def row(number: int, licence: str = "CC BY") -> dict[str, object]:
    return {
        "id": f"r{number}",
        "caption": f"Axial CT of the chest showing {number} nodules in the left lung.",
        "keywords": ["chest", "nodules"],
        "pmcid": f"PMC{number // 2}",
        "licence": licence,
    }


def test_only_captions_whose_licence_allows_it_are_read(tmp_path: Path) -> None:
    path = written(tmp_path / "a", row(1), row(2, "CC BY-NC"), row(3, "NO-CC CODE"), row(4, "CC0"), row(5, "CC BY-ND"))
    assert [each.id for each in read(path)] == ["r1", "r4"]


@pytest.mark.parametrize("content", ["", "[1]\n", "not json\n", '{"licence": "CC BY"}\n', '{"licence": "CC BY-NC"}\n'])
def test_another_file_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "a").write_text(content)
    with pytest.raises(ValueError, match=r"line 1 is not a row|no caption has a licence"):
        read(tmp_path / "a")


def test_whole_articles_are_held_out_and_the_same_ones_each_time(tmp_path: Path) -> None:
    rows = read(written(tmp_path / "a", *(row(number) for number in range(600))))
    out = {each.pmcid for each in held_out(rows)}
    assert len(out) == roco.HELD_OUT
    assert out == {each.pmcid for each in held_out(rows[::-1])}
    kept = learnt_from(rows)
    assert not out & {each.pmcid for each in kept}
    assert len(kept) == 400


def test_prompts_of_real_captions_have_up_to_three_and_answers_from_them(tmp_path: Path) -> None:
    rows = read(written(tmp_path / "a", *(row(number) for number in range(300))))
    made = list(islice(examples(rows, np.random.default_rng(1)), 40))
    assert {len(each.captions) for each in made} == {1, 2, 3}
    assert all(supporting(sentence, each.captions) for each in made for sentence in each.sentences)
    assert composed("", ["→"]) is None


def test_what_was_learnt_is_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_CAPTIONS", "_VOLUMES", "_ANSWERS"):
        monkeypatch.setattr(learnt, name, 100)
    learnt.write(tmp_path)
    words = (tmp_path / learnt.WORDS_FILE).read_text().split()
    assert {"axial", "lung", "brain"} <= set(words)
    answers = json.loads((tmp_path / learnt.ANSWERS_FILE).read_text())
    assert {"the", "image"} <= set(answers["words"])
    assert len(answers["words"]) < 120
    assert answers["copying"] == learnt.COPYING
    prompts = [json.loads(line) for line in (tmp_path / learnt.PROMPTS_FILE).read_text().splitlines()]
    assert len(prompts) == 200
