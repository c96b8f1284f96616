"""What docs/evaluation.md says of citations and of the check of what is medical, measured again."""

import json
from importlib import resources

import numpy as np

from mirage_inference.llm.domain import DomainCheck, features
from mirage_inference.llm.glossary import load
from mirage_training.mini_clip import queries
from mirage_training.mini_lm import facts
from mirage_training.trust import citations, domain_check
from mirage_training.trust.intervals import Share

CHECK = DomainCheck.load()


def test_the_lists_are_as_large_as_stated_and_share_nothing() -> None:
    medical, other, held = domain_check.training("medical"), domain_check.training("other"), domain_check.held_out()
    assert len(medical) + len(other) >= 2200
    assert len(held) >= 420
    new = domain_check.held_out("new_queries.txt")
    assert sum(query.medical for query in new) == sum(not query.medical for query in new) == 150
    newest = domain_check.held_out("questions_2026_11_29.txt")
    assert (sum(query.medical for query in newest), sum(not query.medical for query in newest)) == (141, 139)
    assert not {query.text for query in (*new, *newest)} & {*medical, *other}
    assert sum(query.borderline for query in held) >= 200
    # A word or two stand in both: what is held out is another question all the same.
    assert len({query.text for query in held} & {*medical, *other}) <= 20
    assert sum(len(group.sentences) for group in citations.groups()) >= 290
    assert not {group.captions for group in citations.tuning()} & {group.captions for group in citations.held_out()}


def test_sentences_are_checked_as_well_as_stated_on_the_pairs_that_nothing_was_tuned_on() -> None:
    found = citations.measure(citations.held_out())
    assert found.precision.value >= 0.97
    assert found.recall.value >= 0.85
    assert found.unsupported_right.value >= 0.97
    clinical = citations.measure(citations.clinical(held_out=True))
    assert clinical.precision.value >= 0.97
    assert clinical.recall.value >= 0.85


def test_what_the_mini_language_model_learns_to_write_is_shown() -> None:
    found = citations.measure_composed(100)
    assert found["claims"].value >= 0.99
    known = load()
    assert [fact for fact in facts.sentences() if known.stated(fact) is None] == []


def test_questions_of_other_topics_are_declined_as_often_as_stated() -> None:
    found = domain_check.measure(CHECK, domain_check.held_out())
    assert found.precision.value >= 0.94
    assert found.recall.value >= 0.64
    assert found.medical_passed.value >= 0.975
    new = domain_check.measure(CHECK, domain_check.held_out("new_queries.txt"))
    assert new.recall.value >= 0.77
    assert new.medical_passed.value >= 0.975
    newest = domain_check.measure(CHECK, domain_check.held_out("questions_2026_11_29.txt"))
    assert newest.recall.value >= 0.72
    assert newest.medical_passed.value >= 0.97


def test_what_the_atlas_has_is_never_declined() -> None:
    tables = (queries.SEQUENCE_QUERIES, queries.PLANE_QUERIES, queries.SIDE_QUERIES, queries.SIGNAL_QUERIES)
    names = [name for table in tables for several in table.values() for name in several]
    names += [*queries.LESION_QUERIES, *queries.PLAIN_QUERIES, *queries.PLURAL, *queries.PLURAL.values()]
    names += [*queries.LOBE_ADJECTIVES, *queries.LOBE_ADJECTIVES.values()]
    framed = [frame.format(name) for name in names for frame in queries.FRAMES]
    assert [text for text in framed if not CHECK.lets_pass(text)] == []


def test_what_the_captions_say_is_never_declined() -> None:
    assert not CHECK.lets_pass("apple core")
    assert CHECK.lets_pass("apple core", ["Barium enema with an apple-core lesion of the colon."])


def test_no_words_and_other_scripts_pass() -> None:
    for text in ("", "  ", "???", "肺炎", "головной мозг", "قلب"):
        assert CHECK.lets_pass(text)


def test_an_interval_holds_its_share_and_narrows() -> None:
    few, many = Share(9, 10).interval(), Share(900, 1000).interval()
    assert few[0] < many[0] < 0.9 < many[1] < few[1]
    assert Share(0, 0).interval() == (0.0, 1.0)
    assert np.allclose(Share(10, 10).interval(), (0.7225, 1.0), atol=1e-3)


def test_the_weights_belong_to_the_words_and_lists_as_they_are() -> None:
    medical, other = domain_check.training("medical"), domain_check.training("other")
    rows = np.stack([features(query) for query in (*medical, *other)])
    fitted = domain_check.fit(rows, np.array([1.0] * len(medical) + [0.0] * len(other)))
    stored = json.loads(resources.files("mirage_inference.llm").joinpath("domain_check.json").read_text("utf-8"))[
        "weights"
    ]
    # Elsewhere the last digits of sums may differ.
    assert np.abs(fitted - np.array(stored)).max() < 0.002
