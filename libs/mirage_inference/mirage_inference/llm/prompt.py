"""Prompts: the task, the query and the captions, in the format that the bundle's model was trained with.

Captions and the query are data: whatever in them looks like a part of the format is taken apart before it gets in.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

END = "### End"
RESPONSE = "### Response:\n"
TASK = (
    "Explain to a medical student in a few short sentences what the captions below show. "
    "Say only what they support. The student asks about: "
)

_HEADING = re.compile(r"#{2,}")
_SPACE = re.compile(r"\s+")


@dataclass(frozen=True)
class PromptFormat:
    """The text that begins a prompt, and the text between the captions and the answer.

    With `captions_first`, `before` and `after` state the task, and the query, if there is one, follows the captions.
    """

    before: str
    after: str
    captions_first: bool = False

    @property
    def prefix(self) -> str:
        """The fixed part: the same for every request, so that its key-value cache can be computed once and reused."""
        return self.before if self.captions_first else self.before + TASK


DOLLY = PromptFormat(
    before="Below is an instruction that describes a task. Write a response that appropriately completes the request."
    "\n\n### Instruction:\n",
    after=f"\n\n{RESPONSE}",
)
"""The instruction format that Dolly was trained with (model card of databricks/dolly-v2-3b)."""
PREFIX = DOLLY.prefix


def quoted(text: str) -> str:
    """Text as one line without anything that the format could take for its own headings or special tokens."""
    line = _SPACE.sub(" ", "".join(c if c.isprintable() or c.isspace() else " " for c in text)).strip()
    return _HEADING.sub("#", line).replace("<|", "< |").replace("|>", "| >")


def caption_line(number: int, caption: str) -> str:
    """The line that brings the `number`-th caption, counted from 1, into the context."""
    return f"Caption {number}: {quoted(caption)}"


def prompt(query: str, captions: Sequence[str], form: PromptFormat = DOLLY) -> str:
    """The whole prompt: fixed part, query and captions (best first), and the text that the answer follows."""
    if form.captions_first:
        # Without "Caption 1:", which models of this kind would repeat.
        asked = f"\n\nThe student asks about: {quoted(query)}" if query.strip() else ""
        return form.prefix + "\n".join(f"- {quoted(caption)}" for caption in captions) + asked + form.after
    context = "\n".join(caption_line(number, caption) for number, caption in enumerate(captions, start=1))
    return f"{form.prefix}{quoted(query)}\n\nInput:\n{context}{form.after}"
