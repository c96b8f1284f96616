"""Sentences that say more firmly than their caption what causes what, or that all is normal."""

import pytest

from mirage_inference.llm.checking import Checker
from mirage_inference.llm.citations import supporting
from mirage_inference.llm.glossary import Glossary
from mirage_inference.llm.overstating import overstates
from mirage_inference.llm.request import Caption


@pytest.mark.parametrize(
    ("caption", "right", "wrong"),
    [
        (
            "Expansion of the frontal sinus, with thinning of bone.",
            "The frontal sinus is expanded, with thinning of bone.",
            "The expansion of the frontal sinus is causing thinning of bone.",
        ),
        (
            "Hydrocephalus demonstrated by dilatation of the fourth ventricle.",
            "Hydrocephalus and dilatation of the fourth ventricle are seen.",
            "Hydrocephalus due to dilatation of the fourth ventricle is seen.",
        ),
        (
            "Hyperdensity in the right lower lobe concerning for metastasis.",
            "A hyperdensity in the right lower lobe is concerning for metastasis.",
            "A hyperdensity in the right lower lobe is likely due to metastasis.",
        ),
        (
            "An aberrant right subclavian artery. The mediastinum was otherwise unremarkable.",
            "The mediastinum is otherwise normal.",
            "The mediastinum is normal.",
        ),
    ],
)
def test_a_cause_and_plain_normality_must_be_in_the_caption(caption: str, right: str, wrong: str) -> None:
    assert supporting(right, [caption]) == [0]
    assert supporting(wrong, [caption]) == []


@pytest.mark.parametrize(
    ("caption", "right", "wrong"),
    [
        ("MRI in a case of sarcoidosis.", "MRI in a case of sarcoidosis.", "Sarcoidosis is diagnosed in MRI."),
        (
            "Pelvic MRI with a myometrial cyst.",
            "Pelvic MRI shows a myometrial cyst.",
            "The myometrium has developed a cyst.",
        ),
        (
            "CT of a pancreatic pseudocyst.",
            "CT shows a pancreatic pseudocyst.",
            "CT shows a resolving pancreatic pseudocyst.",
        ),
        (
            "Subsegmental atelectasis.",
            "Subsegmental atelectasis is seen.",
            "Subsegmental atelectasis should be treated.",
        ),
        (
            "Air in the bile ducts, consistent with pneumobilia.",
            "Air in the bile ducts is consistent with pneumobilia.",
            "Air in the bile ducts, indicating pneumobilia.",
        ),
        (
            "An asterisk shows a cystic mass of the pancreas.",
            "A cystic mass of the pancreas is shown.",
            "This image shows an asterisk of cystic mass of the pancreas.",
        ),
        (
            "Radiograph of the Fast prosthesis.",
            "Radiograph of the Fast prosthesis.",
            "This image shows a fast prosthesis.",
        ),
        (
            "CT with gas in the bowel wall of a patient with fever.",
            "CT shows gas in the bowel wall of a patient with fever.",
            "CT shows gas in the bowel wall, indicating fever.",
        ),
        (
            "Radiograph of the wrist with a cast (arrow: fracture of the scaphoid).",
            "Radiograph of the wrist with a cast, and an arrow indicating a fracture of the scaphoid.",
            "Radiograph of the wrist with a cast, indicating a fracture of the scaphoid.",
        ),
        (
            "Radiograph with a cast on the hip (fracture of the femoral head).",
            "Radiograph shows a cast on the hip and a fracture of the femoral head.",
            "Radiograph shows a cast on the hip, indicating a fracture of the femoral head.",
        ),
        (
            "Doppler of the kidney with a resistive index (0.85). Peak systolic velocity is shown too.",
            "Doppler of the kidney shows a resistive index of 0.85.",
            "Doppler of the kidney shows a peak systolic velocity of 0.85.",
        ),
        (
            "The stomach lies in front of the pancreas. A mass is compressing the bile duct.",
            "A mass is compressing the bile duct.",
            "A mass is compressing the stomach.",
        ),
        (
            "A man who was diagnosed with gout. Ultrasound shows an effusion of the knee.",
            "A man diagnosed with gout; ultrasound shows an effusion of the knee.",
            "A man with an effusion of the knee, diagnosed by ultrasound.",
        ),
        (
            "Axial T2-weighted MRI of a patient with a confirmed diagnosis of glioma.",
            "Axial T2-weighted MRI of a patient with a confirmed diagnosis of glioma.",
            "A glioma, confirmed by MRI.",
        ),
        (
            "Coronal T1 image of a renal mass with enhancement.",
            "This image shows a renal mass with enhancement on coronal T1.",
            "This image shows a renal mass with enhancement, which is coronal T1 image.",
        ),
    ],
)
def test_what_no_picture_shows_must_be_in_the_caption(caption: str, right: str, wrong: str) -> None:
    assert supporting(right, [caption]) == [0]
    assert supporting(wrong, [caption]) == []
    assert overstates(wrong, caption)
    assert not overstates(right, caption)


def test_what_is_apparently_so_is_not_simply_so() -> None:
    caption = "Ultrasound of an apparently bicornuate uterus."
    assert supporting(caption, [caption]) == [0]
    assert supporting("Ultrasound of a bicornuate uterus.", [caption]) == []


@pytest.mark.parametrize(
    ("caption", "sentence"),
    [
        ("The cyst was proven by biopsy.", "The cyst is confirmed by biopsy."),
        ("An increasing effusion.", "The effusion has progressed."),
        ("The mass is smaller after chemotherapy.", "The mass has regressed after chemotherapy."),
        ("A hypodense band representing an old laceration.", "A hypodense band, indicating an old laceration."),
        ("A circle of fat around the cord.", "There is a circle of fat around the cord."),
        ("Doppler image of the Portal vein: the portal vein is patent.", "The portal vein is patent."),
        ("Hydronephrosis secondary to a stone in the ureter.", "Hydronephrosis is due to a stone in the ureter."),
        ("Pleural effusions as a result of diaphragmatic irritation.", "Irritation of the diaphragm causes effusions."),
        ("A radiation-induced osteosarcoma of the femur.", "The osteosarcoma is due to radiation."),
        ("Normal liver. The kidneys are otherwise unremarkable.", "The liver is normal."),
        ("Gout was confirmed by dual-energy CT.", "Gout, diagnosed on CT, is seen."),
        ("MRI confirmed the abscess.", "The abscess was confirmed by MRI."),
        ("A cyst that is a remnant of the duct.", "A cyst is seen, which is a remnant of the duct."),
        ("An echogenic mass of the kidney.", "A mass of the kidney, which is echogenic, is seen."),
        ("A mass of 18 mm.", "A mass, which is 18 mm in size, is seen."),
        ("Signs of oedema: thick septa.", "Thick septa, indicating oedema."),
        ("A cyst of the ovary of 3 cm. A second cyst is smaller.", "A cyst of 3 cm is seen in the ovary."),
        ("A woman of 54 years. The liver has 3 metastases.", "A woman of 54 has 3 metastases of the liver."),
        ("A mass that is not obstructing the ureter.", "A mass is seen, not obstructing the ureter."),
    ],
)
def test_a_cause_that_the_caption_names_in_other_words_is_no_overstatement(caption: str, sentence: str) -> None:
    assert not overstates(sentence, caption)


@pytest.mark.parametrize(
    "sentence",
    [
        "The captions describe a coronal T2 of the liver.",
        "The liver is described.",
        "The liver is mentioned.",
        "This image also refers to a coronal T2 of the liver.",
    ],
)
def test_a_sentence_about_the_captions_is_not_shown(sentence: str) -> None:
    checker = Checker((Caption("b", "Coronal T2 of the liver."),), Glossary(()))
    assert checker.check("This is a coronal T2 of the liver.") is not None
    assert checker.check(sentence) is None


@pytest.mark.parametrize("text", ["", "due to", "normal " * 500, "; " * 500, "\x00"])
def test_nothing_that_is_written_breaks_the_comparison(text: str) -> None:
    assert overstates(text, text) is False
