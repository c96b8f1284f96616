"""The mini CLIP: what texts claim, what is held out, a step that learns, a run that resumes, a checkpoint that loads."""

from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch

from mirage_atlas.demo.landmarks import PLANES
from mirage_atlas.demo.lesions import held_out
from mirage_atlas.demo.plan import LEVEL_STEP_MM
from mirage_atlas.demo.sections import Lesion, SectionSpec
from mirage_atlas.demo.template import Template, load_template
from mirage_training.mini_clip.batches import SectionSource, augmented, mirrored
from mirage_training.mini_clip.claims import Claim, Shown, image_table, truth
from mirage_training.mini_clip.model import MODEL_CONFIG, build_model, encode_images, encode_texts, save_checkpoint
from mirage_training.mini_clip.offatlas import (
    BODY_PARTS,
    EVERYDAY,
    FINDINGS,
    HELD_OUT_BODY_PARTS,
    HELD_OUT_EVERYDAY,
    HELD_OUT_FINDINGS,
    off_atlas_query,
)
from mirage_training.mini_clip.queries import attribute_query, caption_query, shift_query, short_query
from mirage_training.mini_clip.samples import TOPICS
from mirage_training.mini_clip.train import Texts, Trainer

LESION = Lesion("left", "frontal lobe", 18, "hyperintense", (-26.0, 40.0, 20.0), (9.0, 9.0, 9.0))
PLAIN = SectionSpec("axial", 6, "t1")
SICK = SectionSpec("axial", 20, "flair", LESION)
SAGITTAL = SectionSpec("sagittal", -26, "t2")


@pytest.fixture(scope="module")
def template() -> Template:
    return load_template()


@pytest.fixture(scope="module")
def source(template: Template) -> SectionSource:
    return SectionSource(template)


@pytest.fixture
def table():
    return image_table([Shown(PLAIN), Shown(SICK), Shown(SAGITTAL), Shown(sample="RG1_UNCI.dcm"), Shown()])


def test_an_open_attribute_is_true_of_all_sections_and_of_no_other_picture(table) -> None:
    assert truth(Claim(plane="axial"), table).tolist() == pytest.approx([1.0, 0.3, 0.0, 0.0, 0.0])


def test_a_lesion_is_only_true_where_side_lobe_and_signal_agree(table) -> None:
    assert truth(Claim(lesion=True, side="left", lobe="frontal lobe"), table)[1] == 1.0
    assert truth(Claim(lesion=True, side="right"), table).sum() == 0.0
    assert truth(Claim(lesion=True, signal="hypointense"), table).sum() == 0.0


def test_a_level_fades_outside_its_range(table) -> None:
    near = truth(Claim(plane="axial", levels=(("axial", (8, 12)),), lesion=False), table)[0]
    far = truth(Claim(plane="axial", levels=(("axial", (30, 34)),), lesion=False), table)[0]
    assert 0.5 < near < 1.0
    assert far == 0.0


def test_an_off_atlas_text_is_true_of_nothing_and_a_sample_text_of_its_sample(table) -> None:
    rng = np.random.default_rng(1)
    assert truth(off_atlas_query(rng).claim, table).sum() == 0.0
    claim = Claim(brain=False, samples=frozenset({"RG1_UNCI.dcm"}))
    assert truth(claim, table).tolist() == [0, 0, 0, 1, 0]


def test_every_generated_text_is_true_of_the_section_it_was_written_from(source: SectionSource) -> None:
    rng = np.random.default_rng(2)
    for _ in range(400):
        spec = source.draw(rng)
        seen = image_table([Shown(spec)])
        for query in (caption_query(spec, rng), short_query(spec, rng), shift_query(spec, rng).base):
            assert truth(query.claim, seen)[0] > 0.2, (query, spec)


def test_a_shift_changes_one_attribute_and_its_words(source: SectionSource) -> None:
    rng = np.random.default_rng(3)
    for _ in range(300):
        shift = shift_query(source.draw(rng), rng)
        names = ("plane", "sequence", "signal", "lobe", "lesion")
        changed = [n for n in names if getattr(shift.base.claim, n) != getattr(shift.target.claim, n)]
        if shift.base.claim.side != shift.target.claim.side and "plane" not in changed:
            changed.append("side")
        assert len(changed) == 1, shift
        assert shift.base.text != shift.target.text
        assert shift.minus != shift.plus


def test_attribute_texts_claim_something() -> None:
    rng = np.random.default_rng(4)
    assert all(attribute_query(rng).claim != Claim() for _ in range(200))


def test_training_never_draws_a_held_out_level_or_lesion(source: SectionSource) -> None:
    rng = np.random.default_rng(5)
    lesions = 0
    for _ in range(600):
        spec = source.draw(rng)
        for drawn in (spec, source.counterpart(spec, rng), mirrored(spec)):
            assert drawn.level_mm % LEVEL_STEP_MM == 2
            if drawn.lesion:
                lesions += 1
                assert not held_out(drawn.lesion.centre_mm)
                assert (drawn.lesion.side == "right") == (drawn.lesion.centre_mm[0] > 0)
    assert lesions > 300


def test_held_out_words_are_never_trained_on() -> None:
    everyday = {"how", "to", "in", "on", "is", "my", "broken", "torn", "cord", "machine"}
    trained = " ".join([*BODY_PARTS, *FINDINGS, *EVERYDAY, *(word for topic in TOPICS for word in topic.words)]).split()
    kept = " ".join([*HELD_OUT_BODY_PARTS, *HELD_OUT_EVERYDAY, *HELD_OUT_FINDINGS]).split()

    assert not (set(kept) - everyday) & set(trained)


def test_the_same_seed_and_step_give_the_same_batch(source: SectionSource) -> None:
    first, second = (
        augmented(source.pictures(8, np.random.default_rng([1, 2])), np.random.default_rng(9)) for _ in range(2)
    )

    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])


def test_lesion_shares_lie_where_the_picture_changed(source: SectionSource) -> None:
    for plane in PLANES:
        spec = SectionSpec(plane, {"axial": 20, "coronal": 40, "sagittal": -26}[plane], "flair", LESION)
        picture, mask = source.render(spec)
        plain, empty = source.render(SectionSpec(plane, spec.level_mm, "flair"))
        assert empty.sum() == 0
        assert np.abs(picture - plain)[mask == 0].max() == 0.0
        assert np.abs(picture - plain)[mask > 0.9].mean() > 0.2


def test_short_texts_give_the_same_vector_as_full_length_ones() -> None:
    torch.manual_seed(0)
    model = build_model().eval()
    texts = Texts()
    short = texts.ids(["axial t1", "lesion left frontal lobe flair"])
    full = torch.nn.functional.pad(short, (0, 77 - short.shape[1]))
    with torch.no_grad():
        assert torch.allclose(encode_texts(model, short), model.encode_text(full), atol=1e-5)


def test_image_embeddings_are_open_clips() -> None:
    torch.manual_seed(0)
    model = build_model().eval()
    pixels = torch.randn(2, 3, 120, 120)
    with torch.no_grad():
        assert torch.allclose(encode_images(model, pixels)[0], model.encode_image(pixels), atol=1e-5)


def test_a_checkpoint_loads_with_open_clip_and_fits_the_size(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = build_model()
    save_checkpoint(model.state_dict(), tmp_path)

    loaded, preprocess = open_clip.create_model_from_pretrained(f"local-dir:{tmp_path}")

    assert sum(p.numel() for p in model.parameters()) < 20_000_000
    assert loaded.visual.image_size in (120, (120, 120))
    assert [type(step).__name__ for step in preprocess.transforms[:2]] == ["Resize", "CenterCrop"]
    pixels = torch.randn(1, 3, 120, 120)
    with torch.no_grad():
        cosine = torch.nn.functional.cosine_similarity(loaded.encode_image(pixels), model.eval().encode_image(pixels))
    assert cosine.item() > 0.999
    assert MODEL_CONFIG["text_cfg"]["context_length"] == 77


def test_training_learns_and_resumes_where_it_stopped(source: SectionSource, tmp_path: Path) -> None:
    straight = Trainer(source, seed=3, batch=16, rate=1e-3)
    losses = [straight.run_step(100, 10) for _ in range(6)]
    first = Trainer(source, seed=3, batch=16, rate=1e-3)
    for _ in range(3):
        first.run_step(100, 10)
    first.save(tmp_path)
    second = Trainer(source, seed=3, batch=16, rate=1e-3)
    second.resume(tmp_path)
    resumed = [second.run_step(100, 10) for _ in range(3)]

    assert second.step == 6
    assert losses[-1]["patches"] < losses[0]["patches"]
    for again, once in zip(resumed, losses[3:], strict=True):
        assert again["text"] == pytest.approx(once["text"], rel=0.02)
