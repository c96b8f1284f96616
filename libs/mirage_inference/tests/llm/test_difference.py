"""What two sides' captions say differently."""

from mirage_inference.llm.difference import differences
from mirage_inference.llm.request import Caption

A = (
    Caption("a1", "Axial CT shows a large mass in the left kidney with necrosis; no hydronephrosis."),
    Caption("a2", "Axial contrast CT with carcinoma and venous thrombus."),
)
B = (
    Caption("b1", "Coronal T2 MRI of the right kidney with hydronephrosis and no mass."),
    Caption("b2", "Hydronephrosis due to a stone in the ureter."),
)


def test_each_difference_names_both_sides_and_what_is_not_stated() -> None:
    assert {each.text: each.ids for each in differences(A, B)} == {
        "Modality: CT in A, MRI in B.": ("a1", "a2", "b1"),
        "Plane: axial in A, coronal in B.": ("a1", "a2", "b1"),
        "Sequence: not stated in A, T2 in B.": ("b1",),
        "Side: left in A, right in B.": ("a1", "b1"),
        "Findings in A, not stated in B: necrosis, carcinoma, thrombus.": ("a1", "a2"),
        "Findings in A, denied in B: mass.": ("a1", "b1"),
        "Findings in B, not stated in A: stone.": ("b2",),
        "Findings in B, denied in A: hydronephrosis.": ("b1", "b2", "a1"),
        "Structures in A, not stated in B: venous.": ("a2",),
        "Structures in B, not stated in A: ureter.": ("b2",),
    }


def test_captions_that_say_the_same_do_not_differ() -> None:
    assert differences(A, A) == differences((), ()) == []
    assert (
        differences(
            A[:1],
            (Caption("x", "A computed tomography, axial: no hydronephrosis; large mass with necrosis, left kidney."),),
        )
        == []
    )
