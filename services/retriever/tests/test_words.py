"""Words of records and queries: the tokenizer, weights, synonyms, spelling, and what a query asks for."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mirage_retriever.engines.base import SCHEMA
from mirage_retriever.records import Record
from mirage_retriever.words.documents import word_id, words_of
from mirage_retriever.words.lexicon import Lexicon
from mirage_retriever.words.matches import Way, find
from mirage_retriever.words.queries import WordQuery, read_query
from mirage_retriever.words.synonyms import LANGUAGES, Synonyms, expressions, load_synonyms, stems_of
from mirage_retriever.words.tokens import clean, tokens
from mirage_retriever.words.vocabulary import Vocabulary

SYNONYMS = load_synonyms()
NOTHING = Synonyms()


def forms(text: str) -> list[str]:
    return [token.word for token in tokens(text)]


def read(text: str, synonyms: Synonyms = SYNONYMS, **counts: int) -> WordQuery:
    return read_query(text, synonyms, Vocabulary(counts, records=100))


def ids(*several: str) -> tuple[tuple[int, ...], ...]:
    """A group of a condition: each text is a way, of one stem or more."""
    return tuple(tuple(map(word_id, way.split())) for way in several)


def record(id_: str = "r", **fields: Any) -> Record:
    return Record(**{"id": id_, "caption": "Section.", **fields})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("T2-weighted", ["t2", "weighted"]),
        ("at L4-L5", ["l4", "l5"]),
        ("L4/5, C1-2", ["l4", "l5", "c1", "c2"]),
        ("5 mm, 5mm, 5-mm, 5 millimetres", ["5mm"] * 4),
        ("1.5 cm and 1,5 cm", ["1.5cm", "1.5cm"]),
        ("3 T or 3T", ["3tesla", "3tesla"]),
        ("non-contrast, non contrast, noncontrast", ["noncontrast"] * 3),
        ("x-ray", ["x", "xray", "ray"]),
        ("Crohn's disease", ["crohn", "disease"]),
        ("Ménière", ["meniere"]),
        ("appen\u00addicitis appen\u200bdicitis", ["appendicitis"] * 2),
        ("US shows us", ["us", "shows"]),
        ("the of and", []),
        ("", []),
        ("a" * 1_000, []),
    ],
)
def test_medical_forms_stay_whole(text: str, expected: list[str]) -> None:
    assert forms(text) == expected


@pytest.mark.parametrize(
    "same",
    [
        "haemorrhage hemorrhage haemorrhages hemorrhagic",
        "oedema edema",
        "tumour tumor tumours",
        "oesophagus esophagus",
        "ischaemia ischemia ischaemic",
        "leukaemia leukemia",
        "diarrhoea diarrhea",
        "fibre fiber fibres",
        "localised localized",
        "metastasis metastases metastatic",
        "diverticulum diverticula",
        "stenosis stenoses stenotic",
        "thrombus thrombi",
        "vertebra vertebrae vertebral",
        "meningioma meningiomas",
        "fracture fractures fractured",
        "disc disk discs",
    ],
)
def test_spellings_and_inflections_of_a_word_are_one(same: str) -> None:
    assert len({token.stem for token in tokens(same)}) == 1


@pytest.mark.parametrize("pair", ["pancreatitis pancreatic", "hepatitis hepatic", "contrast non-contrast", "T1 T2"])
def test_different_words_stay_different(pair: str) -> None:
    first, second = tokens(pair)
    assert first.stem != second.stem


def test_places_are_those_of_the_text() -> None:
    text = "Élargi: a 5 mm T2-bright nodule at L4-L5, Crohn’s x-ray."
    shown = [text[token.start : token.end] for token in tokens(text)]
    assert shown == ["Élargi", "5 mm", "T2", "bright", "nodule", "L4", "L5", "Crohn’s", "x", "x-ray", "ray"]


def test_clean_text_has_no_hidden_characters() -> None:
    assert clean("lung\x00\x07 \u200babs\u202ecess\r\n\ttwo") == "lung abscess two"


def test_a_word_of_the_title_weighs_more_than_one_of_the_history() -> None:
    fields = ("title", "caption", "findings", "history")
    weights = {name: float(words_of(record(**{"caption": "x", name: "lipoma"})).weights.max()) for name in fields}
    assert sorted(weights, key=weights.__getitem__, reverse=True) == list(fields)


def test_a_short_caption_weighs_more_than_a_long_one_and_twice_more_than_once() -> None:
    def weight(caption: str) -> float:
        words, query = words_of(record(caption=caption)), words_of(record(caption="lipoma"))
        return float(words.weights[words.ids == query.ids[0]][0])

    assert weight("lipoma") > weight("lipoma " + "of the left shoulder " * 20)
    assert weight("lipoma lipoma bone") > weight("lipoma bone knee")


def test_labels_and_keywords_are_words_too() -> None:
    words = words_of(record(labels={"modality": ("ct",), "body_part": ("left lung",)}, keywords=("Abscess",)))
    assert {word_id(stem) for stem in ("ct", "left", "lung", "abscess")} <= set(words.ids.tolist())


def test_the_same_record_always_has_the_same_words() -> None:
    first, second = words_of(record(title="Lipoma")), words_of(record(title="Lipoma"))
    assert first.ids.tobytes() == second.ids.tobytes()
    assert first.weights.tobytes() == second.weights.tobytes()
    assert (np.diff(first.ids.astype(np.int64)) > 0).all()


def test_records_that_say_the_same_have_scores_of_their_own_that_hardly_differ() -> None:
    said = [words_of(record(f"r{number}", caption="lipoma")) for number in range(100)]
    weights = [float(words.weights[words.ids == word_id("lipoma")][0]) for words in said]
    assert len(set(weights)) > 90
    assert max(weights) / min(weights) < 1.0002


@pytest.mark.parametrize(
    ("lay", "medical"),
    [
        ("heart attack", "myocardial infarction"),
        ("PE", "pulmonary embolism"),
        ("broken", "fracture"),
        ("bleed", "haemorrhage"),
        ("water on the brain", "hydrocephalus"),
        ("TB", "tuberculosis"),
        ("kidney stones", "nephrolithiasis"),
        ("collapsed lung", "pneumothorax"),
        ("x ray", "radiograph"),
    ],
)
def test_lay_words_and_abbreviations_find_the_medical_ones(lay: str, medical: str) -> None:
    [unit] = read(lay).units
    assert stems_of(medical) in {way.stems for way in unit.ways}


def test_an_abbreviation_of_several_meanings_is_not_looked_for() -> None:
    [unit] = read("multiple sclerosis").units
    assert ("ms",) not in {way.stems for way in unit.ways}
    [unit] = read("MS").units
    assert {("multipl", "sclerosis"), ("mitral", "stenosis")} <= {way.stems for way in unit.ways}


def test_what_was_typed_counts_more_than_any_other_expression() -> None:
    query = read("bleed", bleed=50, hemorrhage=2)
    ids, weights = query.weights
    typed = words_of(record(caption="bleed")).ids[0]
    assert weights[ids == typed] == 1.0
    assert weights.max() == 1.0
    assert (weights[ids != typed] < 1).all()


def test_a_listed_expression_is_a_word_of_records_that_say_it_as_a_whole() -> None:
    whole, apart = words_of(record(caption="Old heart attack.")), words_of(record(caption="Attack of the heart."))
    assert word_id("heart_attack") in whole.ids
    assert word_id("heart_attack") not in apart.ids


def test_other_expressions_and_another_schema_go_together() -> None:
    """Records are indexed with the expressions: with others in the lists, raise SCHEMA, so that they are indexed again."""
    listed = sorted("_".join(stems) for several in expressions().values() for stems in several)
    assert (SCHEMA, hashlib.sha256("\n".join(listed).encode()).hexdigest()[:16]) == (6, "a0c0da21a55c4fc5")


def test_languages_have_the_same_groups_of_which_there_are_300() -> None:
    keys = {language: set(load_synonyms([language]).groups) for language in LANGUAGES}
    assert len(keys["en"]) >= 300
    assert keys["es"] == keys["en"]


def test_a_spanish_query_finds_english_text() -> None:
    both = load_synonyms(["en", "es"])
    [unit] = read("neumonía", both).units
    assert ("pneumonia",) in {way.stems for way in unit.ways}
    assert [unit.text for unit in read("fractura de la cadera", both).units] == ["fractura", "cadera"]


def operators(tmp_path: Path, content: str | bytes) -> Path:
    path = tmp_path / "mine.txt"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_the_operators_file_adds_groups_and_terms(tmp_path: Path) -> None:
    mine = load_synonyms(extra=operators(tmp_path, "# ours\n\nwibble | pneumothorax\npneumonia: lung fire\n"))
    assert ("pneumothorax",) in {each.stems for each in mine.others(("wibbl",))}
    assert ("pneumonia",) in {each.stems for each in mine.others(("lung", "fire"))}


def test_lists_that_refer_to_each_other_are_followed_one_step(tmp_path: Path) -> None:
    mine = load_synonyms([], operators(tmp_path, "aaa | bbb\nbbb | ccc\nccc | aaa\naaa | aaa | bbb\n"))
    assert {each.text for each in mine.others(("aaa",))} == {"bbb", "ccc"}
    assert {each.text for each in mine.others(("bbb",))} == {"aaa", "ccc"}
    assert [way.stems for way in read("aaa", mine).units[0].ways] == [("aaa",), ("bbb",), ("ccc",)]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("fine | good\nalone\n", "mine.txt, line 2: needs two or more different terms"),
        ("same | Same\n", "line 1: needs two or more"),
        ("a b | the of\n", "line 1: a term has no word"),
        ("ok | \n", "line 1: a term has no word"),
        ("ok | " + "x" * 65 + "\n", "line 1: a term has more than 64 characters"),
        ("|".join(f"w{n}x" for n in range(70)), "line 1: more than 64 terms"),
        (b"\xff\xfe\x00", "not UTF-8"),
        (b"#" * (2**20 + 1), "larger than"),
        ("\n" * 10_001, "more than 10000 lines"),
    ],
)
def test_a_bad_file_is_refused_with_its_line(tmp_path: Path, content: str | bytes, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        load_synonyms(extra=operators(tmp_path, content))


def test_an_unknown_language_is_refused_with_those_there_are() -> None:
    with pytest.raises(ValueError, match="known are en, es"):
        load_synonyms(["tlh"])


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("apendicitis", "appendicitis"),
        ("pnuemonia", "pneumonia"),
        ("hemorhage", "hemorrhage"),
        ("meningoma", "meningioma"),
        ("metastses", "metastases"),
    ],
)
def test_a_misspelt_word_is_read_as_the_nearest_of_the_collection(given: str, used: str) -> None:
    vocabulary = {"appendicitis": 5, "pneumonia": 9, "hemorrhage": 3, "meningioma": 4, "metastases": 6}
    query = read(f"acute {given}", NOTHING, acute=4, **vocabulary)
    assert [(each.given, each.used) for each in query.corrected] == [(given, used)]
    assert query.text == f"acute {used}"
    assert [unit.text for unit in query.units] == ["acute", used]


@pytest.mark.parametrize("text", ["lung", "lungs", '"lnug"', "broken", "T9", "ct", "zebra crossing"])
def test_known_quoted_short_and_far_words_stay_as_they_are(text: str) -> None:
    assert read(text, lung=5, fracture=3, pneumonia=2).corrected == ()


def test_quotes_ask_for_a_phrase_as_it_stands() -> None:
    query = read('"heart attack" scar', heart=3)
    assert [unit.text for unit in query.units] == ["heart attack", "scar"]
    assert query.units[0].ways == (Way(("heart", "attack"), adjacent=True),)
    assert query.has_phrases


def test_a_minus_asks_for_records_without_a_word_or_phrase() -> None:
    query = read('lung -fracture -"pleural effusion"')
    assert query.condition[0][0] == ids("lung")[0]
    assert [way.stems for way in query.without] == [("fractur",), ("pleural", "effusion")]
    assert query.excluded == ((ids("fractur"),),)
    assert query.text == "lung"


def test_a_hyphen_within_a_word_is_no_minus() -> None:
    query = read("x-ray L4-L5 follow-up", NOTHING)
    assert query.without == ()
    assert query.condition == (ids("xray", "x_ray"), ids("l4"), ids("l5"), ids("followup", "follow up"))


@pytest.mark.parametrize("number", ["-32 mm", "-32mm", "-2.5", "-2,5", "-100 HU", "-100HU", "-7, axial"])
def test_a_number_below_zero_is_no_minus(number: str) -> None:
    query = read(f"section {number}")
    assert query.without == ()
    assert query.text == f"section {number}"
    assert len(query.units) >= 2


def test_a_minus_may_come_before_a_word_that_begins_with_a_number() -> None:
    assert [way.stems for way in read("MRI -3T -4D").without] == [("3tesla",), ("4d",)]


@pytest.mark.parametrize("text", ["the of", '"" "the"', "-", "- -- ---", "(*)", "\u200b", "show me pictures"])
def test_a_query_without_a_word_asks_for_none(text: str) -> None:
    assert read(text).units == ()


@pytest.mark.parametrize("text", ["-fracture", "-fracture -lung", '-"broken leg"'])
def test_a_query_of_nothing_but_minus_has_no_text_left(text: str) -> None:
    query = read(text)
    assert query.units == ()
    assert query.text == ""
    assert query.without


@pytest.mark.parametrize(
    "text",
    [
        '"' * 2_000,
        "-" * 2_000,
        "(a+)+$" * 300,
        "'; DROP TABLE records; --",
        "%s%n{0}${x}",
        "\x00" * 2_000,
        "a-" * 1_000,
    ],
)
def test_odd_queries_are_read_and_bounded(text: str) -> None:
    assert len(read(text, lung=1).units) <= 48


def test_fillers_need_not_be_found() -> None:
    assert [unit.text for unit in read("show me images of appendicitis").units] == ["appendicitis"]


@pytest.mark.parametrize("caption", ["In-vivo MRI of the brain.", "In-vivo MRI of the brain. " + "Section. " * 400])
def test_a_text_is_marked_the_same_each_time(caption: str) -> None:
    """Also one that begins with a stop word, and one that is too long to be kept."""
    things = [[Way(("brain",))], [Way(("vivo",))]]
    first = find(record(caption=caption), things)
    assert first == find(record(caption=caption), things)
    assert [caption[slice(*span)] for span in first.spans["caption"]] == ["vivo", "brain"]
    assert first.strongly == (True, True)


def test_matches_are_places_in_the_fields() -> None:
    found = find(
        record(title="Broken rib", caption="Rib fractures, healing fracture.", keywords=("rib",)),
        read("rib fracture").things,
    )
    assert found.spans == {
        "title": [[0, 6], [7, 10]],
        "caption": [[0, 3], [4, 13], [23, 31]],
        "keywords.0": [[0, 3]],
    }
    assert found.said == (True, True)


def test_another_expression_must_stand_as_a_whole() -> None:
    things = read("heart attack").things
    assert find(record(caption="Myocardial infarction."), things).said == (True,)
    assert find(record(caption="Infarction of the brain, myocardial scar."), things).said == (False,)


@pytest.mark.parametrize(
    ("text", "caption"),
    [
        ("pulmonary artery", "Dilated pulmonary arteries."),
        ("pulmonary vein", "The pulmonary arteries and veins."),
        ("left ventricle", "Left and right ventricles."),
        ("brain abscess", "Abscess of the left brain."),
        ("pulmonary embolism", "Embolism, pulmonary."),
        ("small bowel obstruction", "Obstruction of the small bowel."),
        ("septic emboli", "Septic pulmonary emboli."),
        ("liver cyst", "A cyst in the left lobe of the liver."),
        ("left kidney", "Kidney, on the left."),
        ("liver and spleen", "Normal liver. The pancreas is not seen. Large spleen."),
        ("liver, spleen", "Normal liver. The pancreas is not seen. Large spleen."),
        ("pictures of a liver cyst", "Cyst of the liver."),
    ],
)
def test_words_of_an_expression_are_said_where_they_stand_together(text: str, caption: str) -> None:
    query = read(text)
    found = find(record(caption=caption), query.things, query.pairs)
    assert (all(found.strongly), found.apart) == (True, ())


@pytest.mark.parametrize(
    ("text", "caption"),
    [
        ("pulmonary artery", "The pulmonary veins and the left subclavian artery."),
        ("left ventricle", "The lateral ventricle on the left."),
        ("left ventricle", "Left lateral ventricle."),
        ("left ventricle", "Section on the left. Ventricle of normal size."),
        ("right atrium", "The right lung and the left atrium."),
        ("subclavian vein", "Pulmonary vein and subclavian artery."),
        ("brain abscess", "Abscess of the lung; normal brain."),
        ("small bowel obstruction", "Small nodule. Normal bowel. Obstruction of the ureter."),
        ("liver cyst", "The liver is normal. A cyst of the kidney."),
        ("liver cyst", "The liver is next to a large and thin-walled renal cyst."),
    ],
)
def test_words_of_an_expression_that_stand_apart_do_not_say_it(text: str, caption: str) -> None:
    query = read(text)
    found = find(record(caption=caption), query.things, query.pairs)
    assert all(found.said)
    assert found.apart or not all(found.strongly)


def test_a_word_that_is_a_whole_label_or_title_belongs_to_every_other() -> None:
    query = read("CT meningioma enhancing")
    labelled = record(
        title="Meningioma", caption="A mass near the falx. It is enhancing.", labels={"modality": ("ct",)}
    )
    assert find(labelled, query.things, query.pairs).apart == ()
    # Not in a name of anatomy.
    query = read("left ventricle")
    assert find(record(caption="Lateral ventricles.", labels={"side": ("left",)}), query.things, query.pairs).apart


def test_what_only_the_history_says_is_said_weakly() -> None:
    found = find(record(history="Rule out appendicitis."), read("appendicitis").things)
    assert found.said == (True,)
    assert found.strongly == (False,)
    assert found.spans == {"history": [[9, 21]]}


def weight(said: Record, stem: str) -> float:
    words = words_of(said)
    return float(words.weights[words.ids == word_id(stem)][0])


def test_what_is_denied_weighs_little_and_is_not_said_to_be_there() -> None:
    shown, denied = record(caption="Large pneumothorax."), record(caption="Clear lungs, no pneumothorax.")
    assert weight(denied, "pneumothorax") < 0.25 * weight(shown, "pneumothorax")
    things = read("pneumothorax").things
    assert find(shown, things).strongly == (True,)
    found = find(denied, things)
    assert (found.said, found.strongly, found.spans) == ((True,), (False,), {"caption": [[16, 28]]})


@pytest.mark.parametrize(
    "text",
    ["no pneumothorax", "CT no mass", "CT without evidence of a mass", "no pneumothorax or masses", "no tumour"],
)
def test_a_query_that_denies_finds_what_is_denied(text: str) -> None:
    query = read(text)
    found = find(record(caption="CT, without pneumothorax, no mass, no tumor."), query.things, query.pairs)
    assert (all(found.strongly), found.apart) == (True, ())
    shown = find(record(caption="CT with pneumothorax, mass and tumor."), query.things, query.pairs)
    assert not all(shown.strongly)


def test_the_words_of_a_query_that_denies_are_those_of_records_that_deny() -> None:
    query, _ = read("no pneumothorax").weights
    denied = words_of(record(caption="Clear lungs, no pneumothorax."))
    shown = words_of(record(caption="Large pneumothorax."))
    assert set(query.tolist()) & set(denied.ids.tolist())
    assert not set(query.tolist()) & set(shown.ids.tolist())


def test_an_expression_that_begins_with_a_denial_is_said() -> None:
    plain = record(caption="Head CT without contrast.")
    assert all(find(plain, read("non-contrast").things).strongly)
    assert weight(plain, "without_contrast") > 1


@pytest.mark.parametrize(
    ("text", "reported"),
    [
        ("broken ankle", {"broken": ("fracture",)}),
        ("heart attack", {"heart attack": ("myocardial infarction",)}),
        ("ankle", {}),
    ],
)
def test_an_expression_that_says_the_words_anyway_is_no_news(text: str, reported: dict[str, tuple[str, ...]]) -> None:
    lexicon = Lexicon(None, SYNONYMS)  # type: ignore[arg-type] # its words are given
    words = ("ankle", "joint", "fracture", "broken", "bone", "heart", "attack", "myocardial", "infarction")
    lexicon.vocabulary = Vocabulary(dict.fromkeys(words, 3), records=100)
    query = read_query(text, SYNONYMS, lexicon.vocabulary)
    found = {
        given: tuple(
            each for each in others if each in ("fracture", "myocardial infarction", "ankle joint", "broken bone")
        )
        for given, others in lexicon.expanded(query).items()
    }
    assert {given: others for given, others in found.items() if others} == reported
