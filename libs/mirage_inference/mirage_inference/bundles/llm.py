"""The manifest of an llm."""

from collections.abc import Mapping
from typing import Any, Final, Literal, Self

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from mirage_inference.bundles.manifest import Frozen, Manifest, RelativePath, Share, TokenId, Variant

DECODER: Final = "decoder"
PROMPT: Final = "prompt"
"""Roles of graphs: the decoder, and if there is one, the graph that reads prompts into the decoder's cache."""


class LlmParity(Frozen):
    """Agreement of a variant with the PyTorch fp32 original, as measured by the builder on `tokens` predicted tokens.

    `agreement` is the share of positions at which the most likely next token is the original's; `perplexity` is the
    variant's, `perplexity_ratio` that divided by the original's.
    """

    tokens: int = Field(ge=1)
    agreement: Share
    perplexity: float = Field(gt=0, allow_inf_nan=False)
    perplexity_ratio: float = Field(gt=0, allow_inf_nan=False)


class PromptGraph(Frozen):
    """Agreement: how near the graph that reads prompts is to the decoder, which read the same texts without it.

    `perplexity_ratio` is the decoder's perplexity after what this graph has read, divided by the one without it.
    `reference` is the same on the reference inputs alone, which `verify` measures again. `memory_bytes` are the weights
    that a service with this graph holds on top of the decoder.
    """

    parity: LlmParity
    reference: LlmParity
    memory_bytes: int = Field(ge=1)


class LlmVariant(Variant):
    """The decoder at one precision, and optionally a graph that reads prompts faster than it.

    `reference` is the parity on the reference inputs alone, which `verify` measures again.
    """

    parity: LlmParity
    reference: LlmParity
    prompt: PromptGraph | None = None

    @model_validator(mode="after")
    def _roles(self) -> Self:
        roles = {DECODER} if self.prompt is None else {DECODER, PROMPT}
        if set(self.files) != roles or set(self.quantisation) != roles:
            raise ValueError("a language model is one decoder, and a graph that reads prompts if its parity is stated")
        return self

    @model_serializer(mode="wrap")
    def _without_nothing(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leaves the field out of manifests that lack the graph, as they were before there was one."""
        content: dict[str, Any] = write(self)
        if self.prompt is None:
            content.pop("prompt", None)
        return content


class Learnt(Frozen):
    """The texts that a small llm learnt from: it writes about captions of that kind only.

    `vocabulary` is a file of words, a line each. `known` is the least share of a prompt's caption words that are among
    them, `perplexity` the highest perplexity of its captions; both measured by the builder. With `answers`, a file of
    words too, it writes these and its captions' words only. `copying`: what continues a caption is favoured by so
    many nats for each of the last tokens that precede it there.
    """

    vocabulary: RelativePath
    answers: RelativePath | None = None
    copying: float = Field(default=0.0, ge=0, le=20)
    known: Share
    perplexity: float = Field(ge=1, allow_inf_nan=False)


class ChatFormat(Frozen):
    """The text that begins a prompt, and the text between the request and the answer, as the model was trained with.

    With `captions_first` these state the task too, and the query follows the captions.
    """

    before: str = Field(max_length=2000)
    after: str = Field(max_length=2000)
    captions_first: bool = False


class LlmManifest(Manifest):
    """A decoder that continues a text token by token, with a key-value cache.

    `end_ids` end a response. `context_length` is the most tokens of prompt and response together. The cache is a pair
    of float32 arrays [1, heads, tokens, head_size] for each layer; `heads` are those of the keys, and `head_size` may be
    more than the original's. `chat` is there if `prompt_format` is "chat". With `learnt`, captions of another kind are not
    described.
    """

    task: Literal["describe"]
    variants: Mapping[str, LlmVariant] = Field(min_length=1, max_length=8)
    architecture: Literal["gpt_neox", "llama", "qwen2", "qwen3", "gemma3"]
    tokenizer: RelativePath
    prompt_format: Literal["dolly", "plain", "chat"]
    chat: ChatFormat | None = None
    vocabulary: int = Field(ge=2, le=2**24)
    layers: int = Field(ge=1, le=256)
    heads: int = Field(ge=1, le=256)
    head_size: int = Field(ge=1, le=1024)
    context_length: int = Field(ge=16, le=2**20)
    end_ids: tuple[TokenId, ...] = Field(min_length=1, max_length=16)
    learnt: Learnt | None = None

    @model_validator(mode="after")
    def _chat(self) -> Self:
        if (self.chat is not None) != (self.prompt_format == "chat"):
            raise ValueError("a chat format is stated if and only if prompts have one")
        return self

    def named_paths(self) -> set[str]:
        """As in Manifest, and the tokenizer and lists of words."""
        learnt = (self.learnt.vocabulary, self.learnt.answers) if self.learnt else ()
        return super().named_paths() | {self.tokenizer} | {path for path in learnt if path}

    def numeric_paths(self) -> set[str]:
        """As in Manifest, and the tokenizer."""
        return super().numeric_paths() | {self.tokenizer}

    def numbers(self) -> Mapping[str, Any]:
        """As in Manifest, with the shape of the decoder and its end tokens."""
        shape = (
            "architecture",
            "prompt_format",
            "vocabulary",
            "layers",
            "heads",
            "head_size",
            "context_length",
            "end_ids",
        )
        # A field that most bundles lack is left out, so that their fingerprints stay.
        chat = {} if self.chat is None else {"chat": self.chat.model_dump(mode="json", exclude_defaults=True)}
        return {**super().numbers(), **self.model_dump(mode="json", include=set(shape)), **chat}
