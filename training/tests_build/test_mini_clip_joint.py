"""mini-clip 2: facts and how true texts are of them, the words of training and of the evaluation, the cut towers, the views."""

import numpy as np
import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer

from mirage_atlas.demo.sections import Lesion, SectionSpec
from mirage_training.mini_clip import natural, unanswered, wordings
from mirage_training.mini_clip.claims import Claim
from mirage_training.mini_clip.facts import NOTHING, Item, Text, rendering_facts, truths
from mirage_training.mini_clip.items import real_item
from mirage_training.mini_clip.joint import encode_features, model_config
from mirage_training.mini_clip.prepare import FROZEN
from mirage_training.mini_clip.towers import BLOCKS, cut_vocabulary, text_config, timm_name, tokenizer_json
from mirage_training.mini_clip.tune import masked_contrast
from mirage_training.mini_clip.views import SIDE_PX, as_pixels, taken_again

LESION = Lesion("left", "frontal lobe", 18, "hyperintense", (-26.0, 40.0, 20.0), (9.0, 9.0, 9.0))
SPEC = SectionSpec("axial", 20, "flair", LESION)
RENDERED = Item("a", "brain", rendering_facts(SPEC), frozenset({"plane", "sequence", "finding"}), SPEC)
CHEST = real_item(
    {
        "id": "x-1", "file": "images/nih/x-1.webp", "caption": "Chest X-ray.",
        "labels": {"modality": "x-ray", "body_part": "chest", "finding": ["pneumonia"], "plane": "frontal", "age_group": "adult"},
    }
)  # fmt: skip
TUMOUR = real_item(
    {
        "id": "t-1", "file": "images/brain-tumor/t-1.webp", "caption": "Glioma.",
        "labels": {"modality": "mr", "body_part": "brain", "finding": ["brain tumor", "glioma"], "sequence": "t1"},
    }
)  # fmt: skip
OTHER = Item("o", "other", NOTHING)
ITEMS = [RENDERED, CHEST, TUMOUR, OTHER]


def judged(*facts: str, claim: Claim | None = None) -> list[float | None]:
    true, known = truths([Text("", frozenset(facts), claim)], ITEMS)
    return [float(t) if k else None for t, k in zip(true[0], known[0], strict=True)]


def test_a_fact_is_true_false_or_not_known() -> None:
    assert judged("modality:mr") == [1, 0, 1, 0]
    assert judged("modality:mr", "plane:axial") == [1, 0, None, 0]
    assert judged("finding:pneumonia") == [0, 1, 0, 0]
    assert judged("body:brain", "sequence:t2") == [0, 0, 0, 0]


def test_a_claim_about_the_template_is_not_known_of_another_brain() -> None:
    lesion = Claim(lesion=True, side="left")
    assert judged("body:brain", claim=lesion) == [1, 0, None, 0]
    assert judged("body:brain", claim=lesion.but(sequence="t2")) == [0, 0, 0, 0]


def test_what_nothing_answers_is_false_of_everything() -> None:
    true, known = truths([Text("", unanswered.UNANSWERED)], ITEMS)
    assert not (true * known).any()


@pytest.mark.parametrize("item", ITEMS[:3])
def test_every_text_is_true_of_the_image_that_it_was_written_about(item: Item) -> None:
    rng = np.random.default_rng(1)
    texts = [wordings.about_rendering(item, rng) if item.spec else wordings.about(item, rng) for _ in range(300)]
    true, known = truths(texts, [item])
    assert len({text.text for text in texts}) > 200
    assert all(text.text.strip() for text in texts)
    for text, value, sure in zip(texts, true[:, 0], known[:, 0], strict=True):
        assert not sure or value > 0.2, text


def test_the_evaluation_has_enough_phrasings_and_none_of_them_is_drawn_in_training() -> None:
    brain, asked, unknown = (
        natural.brain_phrasings(),
        natural.demonstration_phrasings(),
        natural.lines("unanswered.txt"),
    )
    assert len(brain) >= 300
    assert len(unknown) >= 200
    assert all(facets for facets, _ in asked)
    rng = np.random.default_rng(2)
    drawn = {unanswered.unanswered(rng).lower().strip(" .?!") for _ in range(4000)}
    long = {text.lower() for text in unknown if len(text.split()) > 2}
    assert not long & drawn
    assert len({text.lower() for _, _, text in brain}) == len(brain)


def test_a_cut_vocabulary_reads_a_lost_word_in_pieces() -> None:
    tokens = ["[PAD]", "[unused1]", "[UNK]", "[CLS]", "[SEP]", "a", "b", "the", "brain", "été", "##a", "##b", "lesion"]
    kept = cut_vocabulary(tokens, {"lesion"}, first=4)
    assert kept == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "b", "the", "brain", "##a", "##b", "lesion"]
    read = Tokenizer.from_str(tokenizer_json(kept)).encode("The LESION abba")
    assert read.tokens == ["[CLS]", "the", "lesion", "a", "##b", "##b", "##a", "[SEP]"]


def test_the_image_towers_names_are_timms() -> None:
    assert timm_name("_conv_stem.weight", BLOCKS) == "conv_stem.weight"
    assert timm_name("_blocks.0._depthwise_conv.weight", BLOCKS) == "blocks.0.0.conv_dw.weight"
    assert timm_name("_blocks.0._project_conv.weight", BLOCKS) == "blocks.0.0.conv_pw.weight"
    assert timm_name("_blocks.4._bn2.bias", BLOCKS) == "blocks.2.1.bn3.bias"
    assert timm_name("_blocks.15._expand_conv.weight", BLOCKS) == "blocks.6.0.conv_pw.weight"


@pytest.fixture(scope="module")
def model():
    from mirage_models.encoder.checkpoint import make_model

    torch.manual_seed(0)
    return make_model(model_config(32), tower=text_config(1, 50)).eval()


def test_features_of_the_frozen_stages_give_the_vector_of_the_whole_tower(model) -> None:
    pixels = as_pixels([Image.new("RGB", (SIDE_PX, SIDE_PX), (each, 90, 120)) for each in (10, 200)])
    body = model.visual.trunk.body
    with torch.no_grad():
        hidden = body.bn1(body.conv_stem(pixels))
        for stage in body.blocks[:FROZEN]:
            hidden = stage(hidden)
        assert torch.allclose(encode_features(model, hidden), model.encode_image(pixels), atol=1e-4)


def test_pairs_that_are_not_known_do_not_count() -> None:
    cosines = torch.tensor([[0.9, 0.8, 0.1]])
    true = torch.tensor([[1.0, 0.0, 0.0]])
    everything = torch.ones(1, 3, dtype=torch.bool)
    masked = torch.tensor([[True, False, True]])
    scale = torch.tensor(10.0)
    assert masked_contrast(cosines, true, masked, scale) < masked_contrast(cosines, true, everything, scale)


def test_a_view_is_a_square_and_the_same_for_the_same_seed() -> None:
    image = Image.effect_noise((300, 180), 80).convert("RGB")
    first, second = (taken_again(image, CHEST, np.random.default_rng(3)) for _ in range(2))
    assert first.size == (SIDE_PX, SIDE_PX)
    assert first.tobytes() == second.tobytes()
    assert taken_again(image, CHEST, np.random.default_rng(4)).tobytes() != first.tobytes()
