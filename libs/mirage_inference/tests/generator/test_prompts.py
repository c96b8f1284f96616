"""Prompts that a model cannot draw are declined, with the words that it does not know."""

import pytest
from pydantic import ValidationError

from mirage_core.errors import Code, MirageError
from mirage_inference.bundles import Draws
from mirage_inference.generator.prompts import PromptCheck, unknown_words
from tests.support.oracle_generator import make_manifest

DRAWS = Draws(
    about="sections of a brain",
    words=frozenset(
        [
            "a",
            "the",
            "of",
            "in",
            "with",
            "t1",
            "t1w",
            "axial",
            "coronal",
            "brain",
            "mri",
            "lateral",
            "lesion",
            "left",
            "ventricle",
            "frontal",
            "lobe",
        ]
    ),
    only_with={"ventricle": ("lateral", "brain"), "lobe": ("frontal",)},
)


@pytest.mark.parametrize(
    "prompt",
    [
        "Axial T1w MRI of the brain",
        "axial T1, a 16 mm lesion in the left frontal lobe",
        "a 16mm lesion",
        "lesions",
        "axail brian",
        "the brain's lateral ventricle",
        "AXIAL, T1: BRAIN!",
        "",
        "42",
    ],
)
def test_what_was_learnt_is_drawn_however_it_is_spelt(prompt: str) -> None:
    assert list(unknown_words(prompt, DRAWS)) == []
    PromptCheck(make_manifest(draws=DRAWS)).check(prompt)


@pytest.mark.parametrize(
    ("prompt", "unknown"),
    [
        ("chest x-ray with pneumonia", ["chest", "x", "ray", "pneumonia"]),
        ("axial T1 brain with a tumour", ["tumour"]),
        ("a train in the brain", ["train"]),
        ("left ventricle", ["ventricle"]),
        ("a lesion in the left lobe", ["lobe"]),
        ("cerebro axial", ["cerebro"]),
        ("脳 MRI", ["脳"]),
        ("knee, knee and knee", ["knee", "and"]),
    ],
)
def test_other_words_are_named(prompt: str, unknown: list[str]) -> None:
    assert list(unknown_words(prompt, DRAWS)) == unknown
    with pytest.raises(MirageError) as declined:
        PromptCheck(make_manifest(draws=DRAWS), any_topic=True).check(prompt)
    assert declined.value.code is Code.PROMPT_OUTSIDE
    assert declined.value.metadata["about"] == "sections of a brain"
    assert declined.value.metadata["words"] == ", ".join(unknown)


def test_a_long_prompt_names_a_few_of_its_words() -> None:
    with pytest.raises(MirageError) as declined:
        PromptCheck(make_manifest(draws=DRAWS)).check(" ".join(f"unheard{n}of" for n in range(300)))
    assert len(declined.value.metadata["words"].split(", ")) == 5


def test_without_a_list_prompts_about_other_topics_are_declined_unless_the_operator_wants_them() -> None:
    manifest = make_manifest()
    check = PromptCheck(manifest)
    check.check("chest x-ray with pneumonia")
    with pytest.raises(MirageError) as declined:
        check.check("cheap hotels for a holiday in Rome")
    assert declined.value.code is Code.PROMPT_NOT_MEDICAL
    PromptCheck(manifest, any_topic=True).check("cheap hotels for a holiday in Rome")


@pytest.mark.parametrize(
    "changes",
    [
        {"words": []},
        {"words": ["two words"]},
        {"words": ["brain"], "only_with": {"lobe": ["frontal"]}},
        {"about": ""},
        {"words": ["a" * 41]},
    ],
)
def test_a_list_that_cannot_be_right_is_refused(changes: dict[str, object]) -> None:
    content = {"about": "brains", "words": ["brain"], **changes}
    with pytest.raises(ValidationError):
        Draws.model_validate(content)


def test_a_manifest_keeps_its_list_in_one_order() -> None:
    manifest = make_manifest(draws=DRAWS)
    again = type(manifest).model_validate_json(manifest.to_json())
    assert again.draws == DRAWS
    assert again.to_json() == manifest.to_json()
    assert again.fingerprint == make_manifest().fingerprint
