"""Words in the form in which sentences and captions are compared."""

import pytest

from mirage_inference.llm.citations import supporting
from mirage_inference.llm.forms import compared, implied, parse


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("hepatic mass", "mass liver"),
        ("AAA", "abdominal aortic aneurysm"),
        ("hypo-intense", "hypointense"),
        ("3 x 4.5 cm", "3.0x4.5cm"),
        ("angiographic", "angiography"),
        ("embolisation", "embolization"),
        ("three-dimensional", "3D"),
        ("the fourth lumbar vertebra", "the L4 vertebra"),
        ("bones devoid of lesions", "bones without lesions"),
        ("12-year-old", "aged 12 years"),
    ],
)
def test_what_says_the_same_has_one_form(one: str, other: str) -> None:
    assert sorted(compared(one)) == sorted(compared(other))


def test_words_of_decision_keep_their_form() -> None:
    assert compared("marked early only left") == ["severe", "early", "only", "left"]


def test_a_word_says_what_its_parts_say() -> None:
    assert {"kidney", "dilated"} <= implied("hydronephrosis")
    assert {"posterior", "sternum"} <= implied("retrosternal")
    assert implied("kidney") == frozenset()


@pytest.mark.parametrize("line", ["kidney", "kidney |", "kidney | ;", "| renal", "kidney > "])
def test_a_line_that_cannot_be_read_is_named(line: str) -> None:
    with pytest.raises(ValueError, match="line 2"):
        parse(f"# words\n{line}")


def test_a_word_has_one_name() -> None:
    with pytest.raises(ValueError, match="two names"):
        parse("kidney | ren\nspleen | ren")


@pytest.mark.parametrize(
    ("caption", "right", "wrong"),
    [
        (
            "Thickening of the gastric wall. Multiple enlarged lymph nodes.",
            "The wall of the stomach is thickened, and several lymph nodes are enlarged.",
            "The wall of the colon is thickened, and several lymph nodes are enlarged.",
        ),
        (
            "Dissection with a flap involving the celiac axis.",
            "The flap involves the celiac axis.",
            "A flap from the celiac axis is seen.",
        ),
        (
            "Invagination investing the azygos vein.",
            "The azygos vein is invested.",
            "An invagination into the azygos vein.",
        ),
        (
            "Stranding posterior to the vagina.",
            "Stranding is posterior to the vagina.",
            "Stranding is anterior to the vagina.",
        ),
        (
            "A signal change of the lateral aspect of the medial condyle.",
            "The medial condyle has a signal change.",
            "The lateral condyle has a signal change.",
        ),
        (
            "A duct of 9 mm and a vein of 11 mm.",
            "The duct measures 9 mm.",
            "The duct measures 11 mm.",
        ),
        ("A tumor (in orange) and its surrounding tissue (in blue).", "The tumor is orange.", "The tumor is blue."),
        (
            "A large extrapelvic component and a small intrapelvic component.",
            "There is a small intrapelvic component.",
            "There is a large intrapelvic component.",
        ),
    ],
)
def test_other_words_are_understood_and_another_meaning_is_not(caption: str, right: str, wrong: str) -> None:
    assert supporting(right, [caption]) == [0]
    assert supporting(wrong, [caption]) == []
