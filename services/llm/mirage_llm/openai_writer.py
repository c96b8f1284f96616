"""Writes with a server that speaks OpenAI's chat protocol: llama.cpp, Ollama, vLLM and others.

Each description is one streamed request, without retries, redirects or proxies. What the server sends is bounded in
bytes, in length of a line and in pieces of text. Neither the key nor what the server says is logged.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

import httpx

from mirage_core import telemetry
from mirage_core.errors import Code, MirageError
from mirage_inference.llm.fitting import Fitted
from mirage_inference.llm.model import Begun, Finished, Written, Wrote
from mirage_inference.llm.output import Output
from mirage_inference.llm.prompt import caption_line, quoted
from mirage_inference.llm.request import Caption, Question
from mirage_llm.writers import Running, Turns, WriterInfo, count_token, shortened

_log = telemetry.get_logger()
_PROMPT = resources.files("mirage_llm").joinpath("chat_prompt.txt").read_text("utf-8").strip()
_STREAM_BYTES = 4 * 2**20
_LINE_BYTES = 2**18
_RETRY_MOST_S = 60.0
_THINKING = ("<think>", "</think>")


@dataclass(frozen=True)
class OpenAiOptions:
    """The server's address (up to and including /v1), its model, and the key that it asks for.

    `caption_chars` are the most characters of captions in a prompt, `patience_s` the longest silence.
    """

    url: str
    model: str
    key: str = field(default="", repr=False)
    caption_chars: int = 6_000
    patience_s: float = 20.0
    slots: int = 1
    queue: int = 8


class OpenAiWriter:
    """A server's model. `close` it."""

    def __init__(self, options: OpenAiOptions) -> None:
        self._options = options
        self._turns = Turns(slots=options.slots, queue=options.queue)
        self._client = httpx.AsyncClient(
            headers={"authorization": f"Bearer {options.key}"} if options.key else {},
            timeout=httpx.Timeout(options.patience_s, connect=5.0),
            trust_env=False,
            follow_redirects=False,
        )
        named = hashlib.sha256(f"{options.url}\n{options.model}\n{_PROMPT}".encode()).hexdigest()
        self.info = WriterInfo(name=options.model, fingerprint=named, engine="openai", source=options.url)

    async def write(self, question: Question, seed: int) -> AsyncGenerator[Running | Written]:
        """See Writer.write. What the server writes beyond `max_tokens` pieces is not read."""
        async with self._turns:
            yield Running()
            fitted = self._fit(question)
            yield Begun(fitted, 0)
            limit, tokens, complete = question.writing.max_tokens, 0, False
            output, thought = Output(question.writing.stop), _Thought()
            try:
                async with self._client.stream(
                    "POST", f"{self._options.url.rstrip('/')}/chat/completions", json=self._body(question, fitted, seed)
                ) as response:
                    _check(response)
                    async for choice in _choices(response):
                        text, complete = _read(choice)
                        if text:
                            tokens += 1
                            count_token()
                            yield Wrote(output.push(thought.push(text)), tokens)
                        if complete or output.stopped or tokens >= limit or choice.get("finish_reason"):
                            break
                    else:
                        raise _failed("the language model server broke off")
            except httpx.HTTPError as error:
                _log.warning("the language model server does not answer", reason=type(error).__name__)
                raise MirageError(Code.DEPENDENCY_UNAVAILABLE, service="language model server") from None
            if rest := output.finish():
                yield Wrote(rest, tokens)
            yield Finished(complete or output.stopped, tokens)

    async def close(self) -> None:
        """Closes the connections."""
        await self._client.aclose()

    def _fit(self, question: Question) -> Fitted:
        count = shortened([caption.text for caption in question.captions], self._options.caption_chars)
        used, dropped = question.captions[: max(1, count)], question.captions[max(1, count) :]
        if count == 0:
            first = used[0]
            used = (Caption(first.id, first.text[: self._options.caption_chars].rpartition(" ")[0] or first.text[:16]),)
        return Fitted((), used, dropped, shortened=count == 0)

    def _body(self, question: Question, fitted: Fitted, seed: int) -> dict[str, Any]:
        writing = question.writing
        lines = [caption_line(number, caption.text) for number, caption in enumerate(fitted.used, start=1)]
        if question.query.strip():
            lines.append(f"The student asks about: {quoted(question.query)}")
        body = {
            "model": self._options.model,
            "messages": [{"role": "system", "content": _PROMPT}, {"role": "user", "content": "\n".join(lines)}],
            "stream": True,
            "max_tokens": writing.max_tokens,
            "temperature": writing.temperature,
            "top_p": writing.top_p,
        }
        # The format of bundles ends a text too, in `Output`.
        return body | ({"stop": list(writing.stop)} if writing.stop else {}) | ({"seed": seed} if seed else {})


class _Thought:
    """Drops what a model thinks aloud before it answers."""

    def __init__(self) -> None:
        self._held: str | None = ""

    def push(self, text: str) -> str:
        if self._held is None:
            return text
        self._held += text
        begun = self._held.lstrip()
        if begun.startswith(_THINKING[0]):
            _, ended, rest = begun.partition(_THINKING[1])
            if not ended:
                return ""
        elif _THINKING[0].startswith(begun):
            return ""
        else:
            rest = self._held
        self._held = None
        return rest


def _check(response: httpx.Response) -> None:
    """Raises for an answer that is not a stream of events."""
    status = response.status_code
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if status == 200 and kind == "text/event-stream":
        return
    _log.warning("the language model server refused", status=status, content_type=kind[:40])
    if status == 429:
        wait = response.headers.get("retry-after", "")
        seconds = float(wait) if wait.isascii() and wait.isdigit() else 1.0
        raise MirageError(Code.QUEUE_FULL, retry_after_s=min(max(1.0, seconds), _RETRY_MOST_S))
    if status >= 500:
        raise MirageError(Code.DEPENDENCY_UNAVAILABLE, service="language model server")
    raise MirageError(Code.MODEL_FAILED)


async def _choices(response: httpx.Response) -> AsyncIterator[dict[str, Any]]:
    """Yields the first choice of each event; ends at [DONE]. Raises MODEL_FAILED for what is not of the protocol."""
    async for line in _lines(response):
        if not line.startswith(b"data:"):
            continue
        data = line.removeprefix(b"data:").strip()
        if data == b"[DONE]":
            yield {"finish_reason": "stop"}
            return
        try:
            event = json.loads(data)
            choices = event["choices"]
            choice = choices[0] if choices else {}
            if not isinstance(choice, dict) or "error" in event:
                raise TypeError
        except (ValueError, TypeError, KeyError, RecursionError):
            raise _failed("the language model server sent something else") from None
        yield choice


async def _lines(response: httpx.Response) -> AsyncIterator[bytes]:
    held, total = b"", 0
    async for piece in response.aiter_bytes():
        total += len(piece)
        *lines, held = (held + piece).split(b"\n")
        if total > _STREAM_BYTES or len(held) > _LINE_BYTES:
            raise _failed("the language model server sent too much")
        for line in lines:
            yield line.rstrip(b"\r")


def _read(choice: dict[str, Any]) -> tuple[str, bool]:
    """Returns the text of a choice, and whether the text is complete with it."""
    delta = choice.get("delta") or {}
    text = delta.get("content") if isinstance(delta, dict) else None
    return text if isinstance(text, str) else "", choice.get("finish_reason") == "stop"


def _failed(event: str) -> MirageError:
    _log.warning(event)
    return MirageError(Code.MODEL_FAILED)
