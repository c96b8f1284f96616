"""Requests checked against a plain Stable Diffusion, whose jobs nobody waits for."""

from pathlib import Path

import pytest

from mirage_core.errors import Code, MirageError
from mirage_generator.job_validator import JobValidator
from mirage_generator.jobs import JobRequest, Priority
from mirage_inference.bundles import Draws
from mirage_inference.generator.tokenizer import PromptTokenizer
from tests.support.oracle_generator import PLAIN_CHANGES, make_manifest


@pytest.fixture
def plain(tokenizer_file: Path) -> JobValidator:
    manifest = make_manifest(**PLAIN_CHANGES)
    return JobValidator(manifest, PromptTokenizer(tokenizer_file, manifest.prompt), deadline_s=60.0)


@pytest.mark.parametrize("priority", list(Priority))
def test_jobs_of_a_plain_stable_diffusion_have_batch_priority(plain: JobValidator, priority: Priority) -> None:
    spec = plain.accept(JobRequest("axial brain", priority=priority)).spec
    assert (spec.priority, spec.steps, spec.guidance_scale) == (Priority.BATCH, 25, 7.5)


@pytest.mark.parametrize("priority", list(Priority))
def test_jobs_of_a_latent_consistency_model_have_the_priority_that_was_asked_for(
    tokenizer_file: Path, priority: Priority
) -> None:
    manifest = make_manifest()
    validator = JobValidator(manifest, PromptTokenizer(tokenizer_file, manifest.prompt), deadline_s=60.0)
    assert validator.accept(JobRequest("axial brain", priority=priority)).spec.priority is priority


def test_a_negative_prompt_and_fifty_steps_are_taken(plain: JobValidator) -> None:
    spec = plain.accept(JobRequest("axial brain", negative_prompt="left kidney", steps=50, guidance_scale=15.0)).spec
    assert (spec.negative_prompt, spec.steps, spec.guidance_scale) == ("left kidney", 50, 15.0)


@pytest.mark.parametrize(
    ("request_", "code", "field"),
    [
        (JobRequest("brain", steps=9), Code.OPTION_OUT_OF_RANGE, "steps"),
        (JobRequest("brain", steps=51), Code.OPTION_OUT_OF_RANGE, "steps"),
        (JobRequest("brain", guidance_scale=16.0), Code.OPTION_OUT_OF_RANGE, "guidance_scale"),
        (
            JobRequest("brain", negative_prompt="kidney", guidance_scale=1.0),
            Code.NEGATIVE_PROMPT_UNUSED,
            "negative_prompt",
        ),
    ],
)
def test_what_the_model_cannot_do_is_refused(plain: JobValidator, request_: JobRequest, code: Code, field: str) -> None:
    with pytest.raises(MirageError) as refused:
        plain.accept(request_)
    assert (refused.value.code, refused.value.metadata["field"]) == (code, field)


def test_a_prompt_that_the_model_cannot_draw_is_declined(tokenizer_file: Path) -> None:
    manifest = make_manifest(draws=Draws(about="brains", words=frozenset({"axial", "brain"})))
    validator = JobValidator(manifest, PromptTokenizer(tokenizer_file, manifest.prompt), deadline_s=60.0)
    assert validator.accept(JobRequest("axial brain")).spec.prompt == "axial brain"
    with pytest.raises(MirageError) as declined:
        validator.accept(JobRequest("axial chest"))
    assert (declined.value.code, declined.value.metadata["words"]) == (Code.PROMPT_OUTSIDE, "chest")


def test_prompts_about_other_topics_are_declined_unless_the_operator_wants_them(tokenizer_file: Path) -> None:
    manifest = make_manifest()
    tokenizer = PromptTokenizer(tokenizer_file, manifest.prompt)
    request = JobRequest("cheap hotels for a holiday in Rome")
    with pytest.raises(MirageError) as declined:
        JobValidator(manifest, tokenizer, deadline_s=60.0).accept(request)
    assert declined.value.code is Code.PROMPT_NOT_MEDICAL
    assert JobValidator(manifest, tokenizer, deadline_s=60.0, any_topic=True).accept(request).spec.steps > 0
