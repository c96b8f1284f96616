"""Citations: what a sentence may stand on, and what only looks like it."""

import pytest

from mirage_inference.llm.citations import supporting
from mirage_inference.llm.reading import read
from mirage_inference.llm.words import stem, tokens

AXIAL = "Axial T1-weighted section of the brain; a simulated hyperintense lesion of 20 mm in the left frontal lobe."
CORONAL = "Coronal FLAIR-like section of the brain, showing the putamina and thalami; no focal lesion."
CAPTIONS = (AXIAL, CORONAL)


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("The first image is an axial section of the brain.", [0]),
        ("The second image is an axial section of the brain.", []),
        ("Image 2 has no lesion.", [1]),
        ("The first image has no lesion.", []),
        ("There is a hyperintense lesion of 20 mm in the left frontal lobe.", [0]),
        ("There is a hyperintense lesion of 2 cm in the left frontal lobe.", [0]),
        ("There is a hyperintense lesion of 21 mm in the left frontal lobe.", []),
        ("There is a hyperintense lesion in the right frontal lobe.", []),
        ("There is a hyperintense lesion in the left temporal lobe.", []),
        ("There is a hypointense lesion in the left frontal lobe.", []),
        ("The putamen and the thalamus are shown.", [1]),
        ("The hippocampus is shown.", []),
        ("Both images are sections of the brain.", [0, 1]),
        ("None of the images has a lesion.", []),
        ("The third image shows the brain.", []),
        ("The first image is axial; the second image is coronal.", [0, 1]),
        ("The first image is axial; the second image is sagittal.", []),
        ("It is shown here.", []),
        ("None of the captions names the genu of the corpus callosum.", [0, 1]),
        ("The captions do not mention a hippocampus.", [0, 1]),
        ("None of the captions names the putamina.", []),
        ("", []),
    ],
)
def test_a_sentence_stands_on_the_captions_that_say_it(sentence: str, expected: list[int]) -> None:
    assert supporting(sentence, CAPTIONS) == expected


def test_a_side_belongs_to_the_nouns_beside_it() -> None:
    captions = ("Chest film with a right-sided pneumothorax and a shift of the mediastinum to the left.",)
    assert supporting("The pneumothorax is on the right.", captions) == [0]
    assert supporting("The mediastinum is shifted to the left.", captions) == [0]
    assert supporting("The pneumothorax is on the left.", captions) == []
    assert supporting("The mediastinum is shifted to the right.", captions) == []


CLINICAL = (
    "Axial CT. A 3 cm mass in the liver; the spleen is normal. Possible hemangioma.",
    "Status post resection of a glioma; agenesis of the corpus callosum.",
    "A small cyst in the left kidney and a large mass in the right kidney.",
)


@pytest.mark.parametrize(
    ("sentence", "supported"),
    [
        ("A mass of 3 cm is in the liver.", True),
        ("The hepatic mass measures 3 cm.", True),
        ("The spleen has a mass.", False),
        ("The spleen is normal.", True),
        ("The liver is normal.", False),
        ("A possible hemangioma is seen.", True),
        ("It is a hemangioma.", False),
        ("The glioma is large.", False),
        ("A glioma is seen.", False),
        ("A glioma was resected.", True),
        ("The corpus callosum is seen.", False),
        ("The corpus callosum is absent.", True),
        ("There is a small cyst.", True),
        ("There is a large cyst.", False),
        ("The cyst is in the right kidney.", False),
        ("The mass compresses the spleen.", False),
        ("Pneumothorax is seen.", False),
    ],
)
def test_a_finding_belongs_to_its_clause_its_words_and_its_doubts(sentence: str, supported: bool) -> None:
    assert bool(supporting(sentence, CLINICAL)) == supported


@pytest.mark.parametrize(
    ("caption", "right", "wrong"),
    [
        ("A small rectum and a dilated sigmoid colon.", "The rectum is small.", "The sigmoid colon is small."),
        ("T1 hyperintense and T2 hypointense mass.", "The mass is hyperintense on T1.", "It is hyperintense on T2."),
        (
            "Osteolysis of the inner table, less than of the outer.",
            "Osteolysis of the inner table.",
            "The outer table is larger.",
        ),
        ("Hyperintense thalami. Enhancement of the tectum.", "The tectum enhances.", "The thalami enhance."),
        (
            "The right lung is clear, but the left lung is collapsed.",
            "The left lung is collapsed.",
            "The right lung is collapsed.",
        ),
        (
            "The liver is left-sided. The spleen is right-sided.",
            "The spleen is on the right.",
            "The spleen is on the left.",
        ),
        ("A non-enhancing center with an enhancing rim.", "The center does not enhance.", "The center enhances."),
        ("Sparing of the lower lobes.", "The lower lobes are spared.", "The lower lobes are involved."),
        ("An infarct which is not evident on CT.", "An infarct is not seen.", "The infarct is evident."),
        ("There is enhancement of the lesion.", "The lesion enhances.", "The lesion does not enhance."),
        (
            "Mass in the 4th ventricle; IVC thrombus.",
            "A thrombus of the inferior vena cava.",
            "A thrombus of the fourth ventricle.",
        ),
        ("Mass in the inquinal canal.", "A mass of the inguinal canal.", "A mass of the femoral canal."),
        ("Effusions in both knees.", "There are bilateral effusions of the knee.", "Effusions in both hips."),
    ],
)
def test_what_is_said_of_one_thing_does_not_support_another(caption: str, right: str, wrong: str) -> None:
    assert supporting(right, [caption]) == [0]
    assert supporting(wrong, [caption]) == []


@pytest.mark.parametrize(
    ("word", "other", "same"),
    [
        ("cerebellar", "cerebellum", True),
        ("opacified", "opacification", True),
        ("enhancing", "enhancement", True),
        ("pneumonia", "pneumothorax", False),
        ("meningioma", "meningitis", False),
        ("carcinoma", "carcinoid", False),
        ("metacarpal", "metatarsal", False),
    ],
)
def test_forms_of_one_word_are_alike_and_others_are_not(word: str, other: str, same: bool) -> None:
    assert bool(supporting(f"The {word} is seen.", [f"The {other} is seen."])) == same


def test_synonyms_and_numbers_of_nouns_have_one_form() -> None:
    assert tokens("Transverse T1w MRI, 1.5 cm") == ["axial", "t1", "mr", ",", "15mm"]
    pairs = [("thalami", "thalamus"), ("putamina", "putamen"), ("vertebrae", "vertebra"), ("arteries", "artery")]
    assert all(stem(plural) == singular for plural, singular in pairs)
    assert tokens("oedema of the oesophagus") == tokens("edema of the esophagus")


def test_what_is_denied_is_not_asserted() -> None:
    claims = read("Chest X-ray without pneumothorax or effusion, showing a nodule; fracture is excluded.")
    assert {"pneumothorax", "effusion", "fracture"} <= claims.denied
    assert {"nodule", "xray"} <= claims.terms


@pytest.mark.parametrize("text", ["", "...", "left", "no", "\x00", "1" * 5000, "no " * 2000, "; " * 1000])
def test_nothing_that_is_written_breaks_the_reading(text: str) -> None:
    read(text)
    supporting(text, [text or "x"])


@pytest.mark.parametrize("verb", ["states that there is", "mentions", "describes", "is a description of"])
def test_words_about_the_caption_need_no_support(verb: str) -> None:
    captions = ["Persistent left superior vena cava."]
    assert supporting(f"The first caption {verb} a persistent left superior vena cava.", captions) == [0]
    assert supporting(f"The first caption {verb} a persistent right superior vena cava.", captions) == []


@pytest.mark.parametrize("doubt", ["concerning for", "worrisome for", "presumably", "with suspicion of"])
def test_a_doubt_is_not_dropped(doubt: str) -> None:
    captions = [f"A rim of hyperdensity in the right lung, {doubt} metastasis."]
    assert supporting("Hyperdensity in the right lung due to metastasis.", captions) == []
    assert supporting("Hyperdensity in the right lung.", captions) == [0]
    assert supporting(f"Hyperdensity in the right lung, {doubt} metastasis.", captions) == [0]
