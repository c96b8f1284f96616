"""Measures if the mini llm follows the captions: `python -m mirage_training.mini_lm.evaluate --bundle DIR [--prompts
500]`.

Prompts hold combinations that training never saw, the model answers greedily, and `check` reads every sentence. For
comparison, the same answers are read against the captions of another prompt: the score of a model that ignores its
captions.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mirage_core.cpus import available_cpus
from mirage_core.intervals import wilson
from mirage_inference.llm.model import Finished, Outside, Wrote, load_model
from mirage_inference.llm.request import Caption, Question
from mirage_training.mini_lm.check import check
from mirage_training.mini_lm.heldout import heldout_examples

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mirage_training.mini_lm.explanations import Example

SEED = 7_654_321
MAX_TOKENS = 160


@dataclass
class Tally:
    """Sentences counted: how many agree with the captions, and why others do not."""

    sentences: int = 0
    agree: int = 0
    agree_with_others: int = 0
    whole: int = 0
    unfinished: int = 0
    prompts: int = 0
    outside: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    wrong: list[dict[str, Any]] = field(default_factory=list)

    def figures(self) -> dict[str, Any]:
        """Shares with their numbers; the interval is Wilson's at 95 %."""
        return {
            "prompts": self.prompts,
            "sentences": self.sentences,
            "agree": round(self.agree / max(1, self.sentences), 4),
            "interval": [round(bound, 4) for bound in wilson(self.agree, self.sentences)],
            "agree_with_the_captions_of_another_prompt": round(self.agree_with_others / max(1, self.sentences), 4),
            "answers_without_a_wrong_sentence": round(self.whole / max(1, self.prompts - self.outside), 4),
            "unfinished": self.unfinished,
            "outside": self.outside,
            "reasons": dict(self.reasons.most_common(10)),
        }


def measure(answer: Callable[[str, Sequence[str]], tuple[str, bool] | None], examples: Sequence[Example]) -> Tally:
    """Ask for every example. `answer(query, captions)` gives a text, and whether the model came to its end by
    itself; or None if the model does not describe such captions.
    """
    tally = Tally()
    for index, each in enumerate(examples):
        tally.prompts += 1
        given = answer(each.query, [seen.caption for seen in each.seen])
        if given is None:
            tally.outside += 1
            continue
        text, finished = given
        verdicts = check(text, each.seen)
        others = check(text, examples[(index + 1) % len(examples)].seen)
        tally.unfinished += not finished
        tally.sentences += len(verdicts)
        tally.agree += sum(verdict.agrees for verdict in verdicts)
        tally.agree_with_others += sum(verdict.agrees for verdict in others)
        tally.whole += bool(verdicts) and finished and all(verdict.agrees for verdict in verdicts)
        tally.reasons.update(verdict.reason for verdict in verdicts if not verdict.agrees)
        captions = [seen.caption for seen in each.seen]
        tally.wrong.extend(
            {"query": each.query, "captions": captions, "said": verdict.sentence, "why": verdict.reason}
            for verdict in verdicts
            if not verdict.agrees
        )
    return tally


def bundle_answers(directory: Path, variant: str = "") -> Callable[[str, Sequence[str]], tuple[str, bool] | None]:
    """Greedy answers of a bundle, by the code that the service runs; None for captions unlike those that it learnt."""
    model = load_model(directory, variant=variant, threads=available_cpus())

    def answer(query: str, captions: Sequence[str]) -> tuple[str, bool] | None:
        question = Question(query, tuple(Caption(str(number), text) for number, text in enumerate(captions)))
        text, complete = "", False
        for event in model.write(question, seed=0, max_tokens=MAX_TOKENS, cancelled=lambda: False):
            match event:
                case Outside():
                    return None
                case Wrote(text=more):
                    text += more
                case Finished(complete=complete):
                    pass
        return text.strip(), complete

    return answer


def main(arguments: list[str] | None = None) -> int:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(prog="python -m mirage_training.mini_lm.evaluate", description=__doc__)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--variant", default="")
    parser.add_argument("--prompts", type=int, default=500)
    parser.add_argument("--out", type=Path, help="write the figures and the wrong sentences here, as JSON")
    parsed = parser.parse_args(arguments)
    examples = list(islice(heldout_examples(np.random.default_rng(SEED)), parsed.prompts))
    tally = measure(bundle_answers(parsed.bundle, parsed.variant), examples)
    print(json.dumps(tally.figures(), indent=2))
    if parsed.out:
        content = {"figures": tally.figures(), "wrong": tally.wrong}
        parsed.out.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
