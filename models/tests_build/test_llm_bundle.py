"""Checkpoints in the public models' files become bundles that verify; what is not whole or not known is said clearly."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, GPTNeoXForCausalLM

from mirage_core.errors import Code, MirageError
from mirage_inference.bundles import LlmManifest, load_llm, verify_files
from mirage_inference.llm.decode import Continuation, generate
from mirage_inference.llm.onnxruntime_decoder import OnnxRuntimeEngine
from mirage_inference.llm.prompt import END, prompt
from mirage_inference.llm.tokenizer import LlmTokenizer
from mirage_models.llm.random_checkpoint import LIKENESSES, write_random_checkpoint
from mirage_models.llm.task import LEARNT_ANSWERS, LEARNT_PROMPTS, LEARNT_WORDS
from mirage_models.registry import verify
from mirage_models.tasks import UNSHOWN, BuildError, CheckpointError, ParityError, UnknownArchitectureError
from models.tests_build.llm_bundles import build_language, change_weights

PROMPT = prompt("thalamus", ["Axial T1-weighted image of the brain at the level of the thalamus, without contrast."])
EMBEDDING, OUTPUT = "gpt_neox.embed_in.weight", "embed_out.weight"


@pytest.fixture(scope="module")
def dolly(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As Dolly v2: one pytorch_model.bin in bfloat16, its own special tokens."""
    return write_random_checkpoint("dolly-v2-3b", tmp_path_factory.mktemp("dolly"), seed=1)


@pytest.fixture(scope="module")
def pythia(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As Pythia: safetensors in float16, more rows than tokens."""
    return write_random_checkpoint("pythia-1b", tmp_path_factory.mktemp("pythia"), seed=1)


@pytest.fixture(scope="module")
def bundle(dolly: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Dolly's likeness in all variants."""
    out = tmp_path_factory.mktemp("bundles") / "dolly"
    build_language(dolly, out, variants=("int4", "int8", "fp32"), allow_parity_miss=True)
    return out


@pytest.fixture
def copy(pythia: Path, tmp_path: Path) -> Path:
    """A checkpoint to damage."""
    return shutil.copytree(pythia, tmp_path / "copy")


def test_dollys_likeness_becomes_a_bundle_that_verifies(bundle: Path) -> None:
    manifest = load_llm(bundle)
    verify_files(bundle, manifest)
    assert (manifest.task, manifest.prompt_format, manifest.default_variant) == ("describe", "dolly", "int4")
    assert (manifest.layers, manifest.heads, manifest.head_size) == (3, 4, 80)
    tokenizer = LlmTokenizer(bundle / manifest.tokenizer, vocabulary=manifest.vocabulary)
    assert set(manifest.end_ids) == {0, tokenizer.id_of(END)}
    assert manifest.remarks == (UNSHOWN,)
    parity = {name: variant.parity for name, variant in manifest.variants.items()}
    assert parity["fp32"].agreement >= 0.999
    assert abs(parity["fp32"].perplexity_ratio - 1) < 0.001
    assert parity["fp32"].agreement >= parity["int8"].agreement > parity["int4"].agreement > 0.8
    report = verify(bundle)
    assert report.passed
    assert len(report.checks) == 6


def test_a_checkpoint_of_one_kind_of_captions_says_what_it_learnt(copy: Path, tmp_path: Path) -> None:
    captions = ["Axial T1 brain.", "Coronal T2 brain zzz."]
    (copy / LEARNT_WORDS).write_text("axial\ncoronal\nt1\nt2\nbrain\n")
    (copy / LEARNT_PROMPTS).write_text(f"{json.dumps(captions)}\n{json.dumps(captions[:1])}\n")
    (copy / LEARNT_ANSWERS).write_text(json.dumps({"words": ["the", "image"], "copying": 1.5}))
    found = [build_language(copy, tmp_path / name, variants=("fp32",)) for name in ("first", "second")]
    learnt = found[0].learnt
    assert learnt is not None
    assert 0.8 <= learnt.known < 1.0
    assert learnt.perplexity > 1
    assert found[1].learnt == learnt
    assert (tmp_path / "first" / learnt.vocabulary).read_text().split() == ["axial", "coronal", "t1", "t2", "brain"]
    assert learnt.copying == 1.5
    assert (tmp_path / "first" / str(learnt.answers)).read_text().split() == ["the", "image"]
    verify_files(tmp_path / "first", found[0])


def test_the_bundle_writes_what_transformers_writes(bundle: Path, dolly: Path) -> None:
    manifest = load_llm(bundle)
    tokenizer = LlmTokenizer(bundle / manifest.tokenizer, vocabulary=manifest.vocabulary)
    theirs = AutoTokenizer.from_pretrained(dolly)
    ids = tokenizer.encode(PROMPT)
    assert ids == theirs(PROMPT).input_ids
    model = GPTNeoXForCausalLM.from_pretrained(dolly, dtype=torch.float32, attn_implementation="eager")
    wanted = model.generate(
        torch.tensor([ids]), attention_mask=torch.ones(1, len(ids)), max_new_tokens=16, do_sample=False, pad_token_id=0
    )[0, len(ids) :].tolist()
    decoder = OnnxRuntimeEngine().load(bundle, manifest, "fp32", threads=1)
    found = list(generate(decoder.open(), ids, Continuation(16, manifest.end_ids)))
    assert found == [token for token in wanted if token not in manifest.end_ids]


def test_pythias_likeness_in_one_file_or_in_shards_becomes_the_same_bundle(tmp_path: Path, pythia: Path) -> None:
    source = write_random_checkpoint("pythia-1b", tmp_path / "sharded", seed=1, shards=3)
    one = build_language(pythia, tmp_path / "one", allow_parity_miss=True)
    other = build_language(source, tmp_path / "other", allow_parity_miss=True)
    assert one.fingerprint == other.fingerprint
    assert one.files == other.files
    assert one.prompt_format == "plain"
    assert one.end_ids == (0,)
    assert verify(tmp_path / "other").passed


def test_a_pickled_checkpoint_in_shards_is_read_too(tmp_path: Path) -> None:
    source = write_random_checkpoint("dolly-v2-3b", tmp_path / "sharded", seed=1, shards=2)
    assert build_language(source, tmp_path / "out", variants=("fp32",)).variants["fp32"].parity.agreement >= 0.999


def test_captions_of_the_operator_take_the_remark_away(tmp_path: Path, pythia: Path) -> None:
    demo = Path("atlas/mirage_atlas/demo/data")
    manifest = build_language(pythia, tmp_path / "out", calibration=demo, calibration_items=30, allow_parity_miss=True)
    assert manifest.remarks == ()
    with pytest.raises(BuildError, match=r"captions\.jsonl"):
        build_language(pythia, tmp_path / "again", calibration=tmp_path)


def test_below_the_bar_nothing_is_written_unless_that_is_allowed_and_then_said(tmp_path: Path, copy: Path) -> None:
    # One large weight in every block of 32: steps as coarse as that leave nothing of the others.
    generator = torch.Generator().manual_seed(0)
    width = LIKENESSES["pythia-1b"].small["hidden_size"]
    output = torch.randn(690, width, generator=generator)
    output[:, ::32] *= 400
    output[:, 1::32] = -output[:, ::32]
    config = json.loads((copy / "config.json").read_text())
    change_weights(copy, {OUTPUT: output[: config["vocab_size"]].to(torch.float16)})
    out = tmp_path / "out"
    with pytest.raises(ParityError, match=r"int4: .* the bar is"):
        build_language(copy, out)
    assert not out.exists()
    manifest = build_language(copy, out, allow_parity_miss=True)
    assert any("the bar is" in miss for miss in manifest.parity_missed)
    assert load_llm(out).parity_missed == manifest.parity_missed


def test_another_models_files_in_a_bundle_are_noticed(bundle: Path, tmp_path: Path) -> None:
    damaged = shutil.copytree(bundle, tmp_path / "damaged")
    data = damaged / "decoder.int4.data"
    content = bytearray(data.read_bytes())
    content[len(content) // 2] ^= 1
    data.write_bytes(bytes(content))
    with pytest.raises(MirageError) as caught:
        verify(damaged)
    assert caught.value.code is Code.BUNDLE_INVALID
    data.unlink()
    with pytest.raises(MirageError) as caught:
        verify(damaged)
    assert "decoder.int4.data" in caught.value.message


def test_a_decoder_that_is_not_the_originals_does_not_verify(bundle: Path, tmp_path: Path) -> None:
    """Hashes that fit, numbers that do not."""
    wrong = shutil.copytree(bundle, tmp_path / "wrong")
    content = np.fromfile(wrong / "decoder.fp32.data", np.float32)
    content[len(content) // 2 :] *= np.float32(1.5)
    content.tofile(wrong / "decoder.fp32.data")
    manifest = load_llm(wrong)
    files = [file.model_dump() for file in manifest.files]
    for file in files:
        if file["path"] == "decoder.fp32.data":
            from mirage_inference.bundles import sha256_of

            file["sha256"] = sha256_of(wrong / "decoder.fp32.data")
    changed = LlmManifest.model_validate({**manifest.model_dump(mode="json"), "files": files})
    (wrong / "manifest.json").write_text(changed.to_json())
    report = verify(wrong)
    assert not report.passed
    assert all(check.passed for check in report.checks if check.variant != "fp32")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({EMBEDDING: None}, f"{EMBEDDING} is missing"),
        ({OUTPUT: torch.zeros(3, 4)}, "has shape [3, 4]"),
        ({"gpt_neox.final_layer_norm.bias": torch.full((256,), float("nan"))}, "not numbers"),
        ({"gpt_neox.layers.1.mlp.dense_4h_to_h.bias": torch.full((256,), float("inf"))}, "not numbers"),
        ({"gpt_neox.layers.0.mlp.dense_4h_to_h.bias": torch.zeros(256, dtype=torch.int8)}, "dtype I8"),
    ],
    ids=["missing", "shape", "nan", "infinite", "dtype"],
)
def test_tensors_that_are_not_what_they_should_be_are_named(
    tmp_path: Path, copy: Path, change: dict[str, Any], message: str
) -> None:
    change_weights(copy, change)
    with pytest.raises(CheckpointError) as caught:
        build_language(copy, tmp_path / "out")
    assert message in str(caught.value)
    assert not (tmp_path / "out").exists()


def _without(name: str) -> Any:
    return lambda folder: (folder / name).unlink()


def _cut(name: str, share: float) -> Any:
    return lambda folder: (folder / name).write_bytes(
        (folder / name).read_bytes()[: int(share * (folder / name).stat().st_size)]
    )


def _config(**fields: Any) -> Any:
    def change(folder: Path) -> None:
        content = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(content | fields))

    return change


@pytest.mark.parametrize(
    ("damage", "kind", "message"),
    [
        (_without("tokenizer.json"), CheckpointError, "tokenizer is missing"),
        (_cut("tokenizer.json", 0.5), CheckpointError, "tokenizer.json cannot be read"),
        (_without("model.safetensors"), CheckpointError, "no weights"),
        (_cut("model.safetensors", 0.5), CheckpointError, "cut short"),
        (_cut("model.safetensors", 0.001), CheckpointError, "cut short"),
        (_cut("config.json", 0.5), CheckpointError, "config.json cannot be read"),
        (_config(vocab_size=600), CheckpointError, "has 663 tokens, the model knows 600"),
        (_config(num_attention_heads=7), CheckpointError, "make no sense"),
        (_config(hidden_size="wide"), CheckpointError, "garbles"),
        (_config(architectures=["MambaForCausalLM"], model_type="mamba"), UnknownArchitectureError, "MambaForCausalLM"),
        (_config(hidden_act="relu"), UnknownArchitectureError, "relu"),
        (_config(rope_scaling={"type": "linear", "factor": 2.0}), UnknownArchitectureError, "rope_scaling"),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_checkpoints_that_cannot_be_built_say_why(
    tmp_path: Path, copy: Path, damage: Any, kind: type[BuildError], message: str
) -> None:
    damage(copy)
    with pytest.raises(kind) as caught:
        build_language(copy, tmp_path / "out")
    assert message in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    source = write_random_checkpoint("pythia-1b", tmp_path / "sharded", shards=3)
    (source / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(CheckpointError, match="model-00002-of-00003"):
        build_language(source, tmp_path / "out")


def test_a_pickle_that_runs_code_is_not_run(tmp_path: Path, copy: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "ran",))

    (copy / "model.safetensors").unlink()
    torch.save({EMBEDDING: Evil()}, copy / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin"):
        build_language(copy, tmp_path / "out")
    assert not (tmp_path / "ran").exists()


def test_special_tokens_that_only_the_files_beside_name_are_in_the_bundles_tokenizer(
    tmp_path: Path, dolly: Path
) -> None:
    source = shutil.copytree(dolly, tmp_path / "copy")
    whole = json.loads((source / "tokenizer.json").read_text())
    kept = [entry for entry in whole["added_tokens"] if not entry["content"].startswith("###")]
    (source / "tokenizer.json").write_text(json.dumps(whole | {"added_tokens": kept}))
    manifest = build_language(source, tmp_path / "out", variants=("fp32",))
    tokenizer = LlmTokenizer(tmp_path / "out" / manifest.tokenizer, vocabulary=manifest.vocabulary)
    original = LlmTokenizer(dolly / "tokenizer.json", vocabulary=manifest.vocabulary)
    assert tokenizer.encode(PROMPT) == original.encode(PROMPT)
    assert manifest.prompt_format == "dolly"


def test_variants_and_options_that_do_not_exist_are_refused(tmp_path: Path, pythia: Path) -> None:
    with pytest.raises(BuildError, match="no variant int3"):
        build_language(pythia, tmp_path / "out", variants=("int3",))
    with pytest.raises(BuildError, match="no option steps"):
        build_language(pythia, tmp_path / "out", options={"steps": 4})


@pytest.mark.parametrize("like", sorted(LIKENESSES))
def test_the_likenesses_have_the_keys_that_transformers_loads(tmp_path: Path, like: str) -> None:
    source = write_random_checkpoint(like, tmp_path / "checkpoint")
    model, report = GPTNeoXForCausalLM.from_pretrained(source, dtype="auto", output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["mismatched_keys"]
    assert model.dtype == getattr(torch, LIKENESSES[like].config["torch_dtype"])
