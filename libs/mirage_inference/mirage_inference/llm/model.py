"""A language model bundle, loaded: questions to prompts, prompts to text, piece by piece."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mirage_core.errors import Code, MirageError
from mirage_inference.bundles import LlmManifest, load_llm, verify_files
from mirage_inference.llm.copying import Copying
from mirage_inference.llm.decode import Continuation, PrefixCache, generate
from mirage_inference.llm.decoder import Decoder
from mirage_inference.llm.fitting import Fitted, Fitter
from mirage_inference.llm.glossary import load as load_glossary
from mirage_inference.llm.learnt import known_share, perplexity
from mirage_inference.llm.onnxruntime_decoder import OnnxRuntimeEngine
from mirage_inference.llm.output import Output
from mirage_inference.llm.prompt import DOLLY, PromptFormat
from mirage_inference.llm.request import Caption, Question
from mirage_inference.llm.sampling import Sampling
from mirage_inference.llm.tokenizer import LlmTokenizer, TextStream
from mirage_inference.llm.word_constraint import WordConstraint
from mirage_inference.llm.words import english_forms

_WARM_UP = Question("brain", (Caption("warm-up", "Axial T1-weighted section of the brain."),))
_WARM_UP_TOKENS = 2


@dataclass(frozen=True)
class Begun:
    """The prompt, and the number of its tokens that were computed before."""

    fitted: Fitted
    cached_tokens: int


@dataclass(frozen=True)
class Wrote:
    """Text (may be empty while a part of a character or a stop sequence is open) and the tokens written so far."""

    text: str
    tokens: int


@dataclass(frozen=True)
class Finished:
    """The end. `complete` is False if the text was cut at the number of tokens or the end of the context."""

    complete: bool
    tokens: int


@dataclass(frozen=True)
class Outside:
    """The captions are unlike those that the model learnt from, so that it writes nothing."""


Written = Outside | Begun | Wrote | Finished


class LlmModel:
    """A decoder with its tokenizer and the cache of the prompt's fixed part. Safe to use from several threads.

    It writes no word that is neither in the captions nor among `words`. `vocabulary` are the words that it learnt.
    """

    def __init__(
        self,
        manifest: LlmManifest,
        variant: str,
        tokenizer: LlmTokenizer,
        decoder: Decoder,
        description: str,
        words: Collection[str],
        vocabulary: frozenset[str] = frozenset(),
    ) -> None:
        self.manifest, self.variant, self.description = manifest, variant, description
        self.fingerprint = manifest.fingerprint
        self._tokenizer, self._decoder, self._vocabulary = tokenizer, decoder, vocabulary
        self._constraint = WordConstraint(
            tokenizer.texts(),
            words,
            vocabulary=manifest.vocabulary,
            end_ids=manifest.end_ids,
            letters=not (manifest.learnt and manifest.learnt.answers),
        )
        copying = manifest.learnt.copying if manifest.learnt else 0.0
        self._copying = Copying(tokenizer.encode, tokenizer.texts(), frozenset(words), copying) if copying else None
        self._fitter: Fitter | None = None
        self._prefix: PrefixCache | None = None

    def prepare(self, special: frozenset[int]) -> None:
        """Computes the fixed part of the prompt, once; `special` are the ids that a caption must not contain.

        Raises BUNDLE_INVALID if the context holds hardly more than that part, and MODEL_FAILED.
        """
        chat = self.manifest.chat
        form = DOLLY if chat is None else PromptFormat(**chat.model_dump())
        ids = self._tokenizer.encode(form.prefix)
        if self.manifest.context_length < 2 * len(ids):
            raise MirageError(Code.BUNDLE_INVALID, reason="the context is too short for descriptions")
        self._fitter = Fitter(self._tokenizer, context_length=self.manifest.context_length, special=special, form=form)
        self._prefix = PrefixCache(self._decoder, ids)

    def warm_up(self) -> None:
        """A first short description, so that the first reader does not pay for what is done once.

        Raises MODEL_FAILED.
        """
        for _ in self.write(_WARM_UP, seed=0, max_tokens=_WARM_UP_TOKENS, cancelled=lambda: False):
            pass

    def write(
        self, question: Question, *, seed: int, cancelled: Callable[[], bool], max_tokens: int | None = None
    ) -> Iterator[Written]:
        """Yields `Begun`, then `Wrote` a token, then `Finished`; or only `Outside`.

        `cancelled` is asked between pieces of the prompt and before each token; CancelledError is raised then. Raises
        MODEL_FAILED.
        """
        if self._fitter is None or self._prefix is None:
            raise MirageError(Code.MODEL_NOT_READY, retry_after_s=1.0)
        writing = question.writing
        limit = max_tokens or writing.max_tokens
        fitted = self._fitter.fit(question.query, question.captions, max_tokens=limit)
        if self._is_outside([caption.text for caption in fitted.used]):
            yield Outside()
            return
        capacity = min(self.manifest.context_length, len(fitted.ids) + limit)
        session, ids = self._prefix.begin(fitted.ids, capacity=capacity)
        yield Begun(fitted, len(fitted.ids) - len(ids))
        sampling = Sampling(temperature=writing.temperature, top_p=writing.top_p, seed=seed)
        continuation = Continuation(limit, self.manifest.end_ids, sampling)
        stream, output = TextStream(self._tokenizer), Output(writing.stop)
        tokens = 0
        captions = [caption.text for caption in fitted.used]
        constraint = self._constraint.begin(captions)
        copied = self._copying.begin(captions) if self._copying else None
        for token in generate(session, ids, continuation, constraint=constraint, copied=copied, cancelled=cancelled):
            tokens += 1
            yield Wrote(output.push(stream.push(token)), tokens)
            if output.stopped:
                break
        rest = output.push(stream.finish()) + output.finish()
        if rest:
            yield Wrote(rest, tokens)
        room = min(limit, self.manifest.context_length - len(fitted.ids))
        yield Finished(output.stopped or tokens < room, tokens)

    def _is_outside(self, captions: Sequence[str]) -> bool:
        learnt = self.manifest.learnt
        if learnt is None:
            return False
        if known_share(captions, self._vocabulary) < learnt.known:
            return True
        return perplexity(self._decoder, self._tokenizer, captions) > learnt.perplexity

    def close(self) -> None:
        """Frees the decoder; nothing may be written any more."""
        self._decoder.close()


def load_model(
    directory: Path,
    *,
    variant: str = "",
    threads: int,
    words: Collection[str] = frozenset(),
    prompt_graph: bool = True,
) -> LlmModel:
    """Loads a bundle at one of its precisions (the default if `variant` is empty) and computes the prompt's start.

    The model may write English words, those of the reviewed facts and of the captions, and `words` (in lower case); one
    whose manifest has a list for its answers may write these and the captions' words. Without `prompt_graph`, a graph of the
    bundle that only reads prompts is not loaded: less memory, slower prompts.
    Raises BUNDLE_MISSING or BUNDLE_INVALID: every file is checked against the manifest first.
    """
    manifest = load_llm(directory)
    name = variant or manifest.default_variant
    if name not in manifest.variants:
        raise MirageError(Code.BUNDLE_INVALID, reason=f"there is no variant {name[:40]}")
    verify_files(directory, manifest)
    path = directory / manifest.tokenizer
    tokenizer = LlmTokenizer(path, vocabulary=manifest.vocabulary)
    engine = OnnxRuntimeEngine()
    decoder = engine.load(directory, manifest, name, threads=threads, prompt_graph=prompt_graph)
    learnt = (directory / manifest.learnt.vocabulary).read_text("utf-8").split() if manifest.learnt else ()
    if manifest.learnt and manifest.learnt.answers:
        allowed = frozenset((directory / manifest.learnt.answers).read_text("utf-8").split())
    else:
        allowed = english_forms() | load_glossary().words | frozenset(words)
    model = LlmModel(manifest, name, tokenizer, decoder, engine.description, allowed, frozenset(learnt))
    model.prepare(special_ids(path))
    return model


def special_ids(path: Path) -> frozenset[int]:
    """Returns the ids of a tokenizer.json that do not represent ordinary text: added tokens, except runs of blanks."""
    added = json.loads(path.read_text("utf-8")).get("added_tokens", [])
    return frozenset(entry["id"] for entry in added if entry["content"].strip())
