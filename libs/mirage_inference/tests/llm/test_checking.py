"""Sentences before they are shown, and the list of facts."""

import pytest

from mirage_inference.llm.checking import Block, Checker, Kind, block_of, worded
from mirage_inference.llm.glossary import Fact, Glossary, load, parse, reviewed
from mirage_inference.llm.request import Caption

CAPTIONS = (
    Caption("a", "Axial CT shows a cyst of 3 cm in the left kidney; no pneumothorax. The zorbular sign is seen."),
    Caption("b", "Coronal T2 of the liver."),
)
FACTS = (
    Fact("anatomy", ("kidney",), "A kidney has a cortex and a medulla."),
    Fact("finding", ("pneumothorax",), "A pneumothorax is air in the pleural space."),
    Fact("modality", ("us", "ultrasound"), "In ultrasound fluid is black."),
)


@pytest.fixture
def checker() -> Checker:
    return Checker(CAPTIONS, Glossary(FACTS))


def test_a_supported_sentence_names_its_records_and_no_number_of_an_image(checker: Checker) -> None:
    checked = checker.check("The first image shows a cyst in the left kidney.")
    assert checked is not None
    assert (checked.text, checked.ids) == ("This image shows a cyst in the left kidney.", ("a",))
    assert (checked.kind, checked.block) == (Kind.CAPTION, Block.SEE)


def test_a_fact_needs_no_caption_and_is_shown_as_it_was_reviewed(checker: Checker) -> None:
    for sentence in ("A kidney has a cortex, and a medulla", "The kidney has a cortex."):
        checked = checker.check(sentence)
        assert checked is not None
        assert (checked.text, checked.kind, checked.ids) == (FACTS[0].sentence, Kind.GENERAL, ())


@pytest.mark.parametrize(
    "sentence",
    [
        "The first image shows a cyst in the right kidney.",
        "The second image shows a cyst.",
        "The kidney has five cortices.",
        "This shows reumymal mass.",
        "A zorbulary sign is seen.",
        "Our patient has a cyst in the left kidney.",
        "",
        "...",
    ],
)
def test_what_nothing_supports_is_not_shown(checker: Checker, sentence: str) -> None:
    assert checker.check(sentence) is None


def test_a_fragment_is_not_shown_even_if_a_caption_has_its_words() -> None:
    caption = Caption("a", "Stranding anterior to the rectum, which may represent the fistula tract.")
    checker = Checker([caption], Glossary(FACTS))
    assert checker.check("Stranding is anterior to the rectum.") is not None
    assert checker.check("Anterior to the rectum, there may represent the fistula tract.") is None


def test_a_word_that_only_a_caption_has_is_shown(checker: Checker) -> None:
    assert checker.check("The zorbular sign is seen.") is not None


def test_facts_are_of_what_is_asked_and_shown_and_not_of_what_is_denied(checker: Checker) -> None:
    assert [fact.text for fact in checker.facts("")] == [FACTS[0].sentence]
    assert [fact.text for fact in checker.facts("pneumothorax")] == [FACTS[1].sentence, FACTS[0].sentence]
    assert [fact.text for fact in checker.facts("show us a cyst")] == [FACTS[0].sentence]
    assert FACTS[2].sentence in [fact.text for fact in checker.facts("US of the liver")]


def test_a_fact_is_told_once_and_only_of_its_own_kind() -> None:
    glossary = load()
    checker = Checker([Caption("a", "Axial CT and coronal CT.")], glossary)
    told = [fact.text for fact in checker.facts("")]
    assert sum(text.startswith("An axial section cuts") for text in told) == 1
    for title in ("Aneurysmal bone cyst", "Epidermoid cyst", "Berry aneurysm", "Psoas abscess", "Renal infarct"):
        assert checker.facts_about(title) == []
    femur = Checker([Caption("a", "Fracture of the femoral neck.")], glossary)
    assert not any("airway" in fact.text for fact in femur.facts(""))
    assert [fact.text for fact in checker.facts_about("Simple cyst")] == [
        "A simple cyst is filled with clear fluid, has a thin wall and does not enhance."
    ]


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("The first image is an axial section.", "An axial section."),
        ("The first radiograph shows a fracture.", "The radiograph shows a fracture."),
        ("Second lateral chest X-ray reveals a nodule.", "The lateral chest X-ray reveals a nodule."),
        ("The first metatarsal is short.", "The first metatarsal is short."),
        ("The first X-ray after the fall shows a fracture.", "The first X-ray after the fall shows a fracture."),
        ("The first image is an X-ray image of the knee and shows a tear.", "An X-ray image of the knee shows a tear."),
        ("The second caption describes an axial section.", "An axial section."),
        ("The second caption states that there is a persistent cyst.", "This image shows a persistent cyst."),
        ("The caption describes a round mass.", "A round mass."),
        ("- a cyst is seen.", "A cyst is seen."),
        ("2. The liver is normal.", "The liver is normal."),
        ("3.5 cm cyst.", "3.5 cm cyst."),
        ("The second and third images have no lesion.", "These images have no lesion."),
        ("We can see the pons.", "This image shows the pons."),
        ("In image 2 the pons is dark.", "In this image the pons is dark."),
        ("the pons is dark.", "The pons is dark."),
    ],
)
def test_sentences_are_worded_without_numbers_of_images(written: str, shown: str) -> None:
    assert worded(written) == shown


@pytest.mark.parametrize(
    "sentence",
    [
        "The mass is located at the bladder wall.",
        "The left kidney lies in the pelvis.",
        "The claw sign is seen at the margin of the kidney.",
        "Its upper pole is next to the spleen.",
    ],
)
def test_a_sentence_that_says_where_something_lies_is_where_to_look(sentence: str) -> None:
    assert block_of(sentence) is Block.WHERE


@pytest.mark.parametrize(
    "sentence",
    [
        "A mass in the liver.",
        "There is a cyst in the left kidney.",
        "Left lower lobe atelectasis is noted.",
        "One-year radiograph with union at the site of the fracture.",
        "This image shows a mass in the left lobe of the liver.",
        "A midline sagittal section of the brain.",
        "The nodule is at least 2 cm in size.",
        "The lesion is hyperintense on T2.",
        "",
    ],
)
def test_a_sentence_that_states_a_finding_is_what_is_seen(sentence: str) -> None:
    assert block_of(sentence) is Block.SEE


def test_reviewed_facts_are_whole_sentences_about_terms_that_find_them() -> None:
    facts, glossary = reviewed(), load()
    assert len(facts) >= 150
    assert len({fact.sentence for fact in facts}) == len(facts)
    for fact in facts:
        assert glossary.stated(fact.sentence) == fact
        assert all(fact in glossary.about(term.upper()) for term in fact.terms), fact


@pytest.mark.parametrize(
    "line",
    [
        "anatomy | kidney",
        "organ | kidney | A b.",
        "anatomy | ; | A b.",
        "anatomy | kidney | no end",
        "anatomy | k | A\x00.",
    ],
)
def test_a_list_of_facts_that_cannot_be_read_names_the_line(line: str) -> None:
    with pytest.raises(ValueError, match="line 2"):
        parse(f"# ours\n{line}\n")


@pytest.mark.parametrize(
    ("sentence", "shown"),
    [
        ("The image shows the liver, the spleen and the liver.", False),
        ("The image shows the liver, the spleen and the spleen.", False),
        ("The image shows the liver and the spleen.", True),
    ],
)
def test_a_list_that_names_a_thing_twice_is_withheld(sentence: str, shown: bool) -> None:
    checker = Checker((Caption("a", "Axial CT showing the liver, the spleen and the aorta."),), Glossary(()))
    assert (checker.check(sentence) is not None) == shown
