"""Fit and measure the check of what is medical: `python -m mirage_training.trust.domain_check [--out FILE]`.

The bound below which a question is declined comes from cross-validation on the training lists: the highest at which the
regression alone declines at most one medical question in thirty. Three lists are only measured.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from mirage_inference.llm.domain import DENSE, HASHED, DomainCheck, features
from mirage_training.trust.intervals import Share

SEED = 7
_FOLDS = 10
_STEPS = 800
_RATE = 0.5
_RIDGE_HASHED = 1e-4
_RIDGE_DENSE = 1e-4
_DECLINED_MEDICAL = 1 / 30
_HIGHEST = 0.45

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class HeldOut:
    """A question that training never sees."""

    text: str
    medical: bool
    borderline: bool


@dataclass(frozen=True)
class Measured:
    """Of the declined, how many are about other things (`precision`); of other things, how many are declined (`recall`)."""

    precision: Share
    recall: Share
    medical_passed: Share
    wrong: tuple[str, ...]


def training(name: str) -> tuple[str, ...]:
    """A training list, "medical" or "other"."""
    text = resources.files("mirage_training.trust").joinpath(f"{name}_training.txt").read_text("utf-8")
    return tuple(line for line in text.splitlines() if line and not line.startswith("#"))


def held_out(file: str = "heldout_queries.txt") -> tuple[HeldOut, ...]:
    """Returns a list that is measured on: `heldout_queries.txt`, `new_queries.txt` or `questions_2026_11_29.txt`."""
    text = resources.files("mirage_training.trust").joinpath(file).read_text("utf-8")
    found: list[HeldOut] = []
    medical = True
    for line in text.splitlines():
        if line.startswith("== "):
            medical = line == "== medical"
        elif line and not line.startswith("#"):
            found.append(HeldOut(line.removeprefix("* "), medical, line.startswith("* ")))
    return tuple(found)


def measure(check: DomainCheck, queries: Sequence[HeldOut]) -> Measured:
    """The measures on some questions, without captions."""
    passed = {query: check.lets_pass(query.text) for query in queries}
    declined = [query for query in queries if not passed[query]]
    others = [query for query in queries if not query.medical]
    medical = [query for query in queries if query.medical]
    return Measured(
        Share(sum(not query.medical for query in declined), len(declined)),
        Share(sum(not passed[query] for query in others), len(others)),
        Share(sum(passed[query] for query in medical), len(medical)),
        tuple(
            f"{'passed' if passed[query] else 'declined'}: {query.text}"
            for query in queries
            if passed[query] != query.medical
        ),
    )


def fit(rows: Array, labels: Array) -> Array:
    """Weights of the logistic regression; each class weighs the same. Deterministic: gradient descent with momentum from zero."""
    weights = np.zeros(rows.shape[1])
    momentum = np.zeros_like(weights)
    share = np.where(labels > 0, 0.5 / labels.sum(), 0.5 / (len(labels) - labels.sum()))
    ridge = np.concatenate([np.full(HASHED, _RIDGE_HASHED), np.full(len(DENSE), _RIDGE_DENSE)])
    # Few of the n-grams are in one question.
    sparse = csr_array(rows)
    turned = sparse.T.tocsr()
    for _ in range(_STEPS):
        chances = 1 / (1 + np.exp(-np.clip(sparse @ weights, -30, 30)))
        momentum = 0.9 * momentum - _RATE * (turned @ (share * (chances - labels)) + ridge * weights)
        weights = weights + momentum
    return weights


def make() -> dict[str, object]:
    """The content of domain_check.json."""
    medical, other = training("medical"), training("other")
    rows = np.stack([features(query) for query in (*medical, *other)])
    labels = np.array([1.0] * len(medical) + [0.0] * len(other))
    folds = np.random.default_rng(SEED).permutation(len(labels)) % _FOLDS
    scores = np.zeros(len(labels))
    for fold in range(_FOLDS):
        inside = folds != fold
        logits = rows[~inside] @ fit(rows[inside], labels[inside])
        scores[~inside] = 1 / (1 + np.exp(-logits))
    bound = min(_HIGHEST, float(np.quantile(scores[labels > 0], _DECLINED_MEDICAL)))
    return {
        "dense": list(DENSE),
        "decline_below": round(bound, 4),
        "training": {"medical": len(medical), "other": len(other), "seed": SEED},
        "weights": [round(float(weight), 3) for weight in fit(rows, labels)],
    }


def main() -> None:
    """Write the weights where --out names a file; print the measures on the held-out list."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="domain_check.json to write")
    parser.add_argument("--wrong", action="store_true", help="list what goes wrong")
    arguments = parser.parse_args()
    content = make()
    if arguments.out:
        text = json.dumps(content, separators=(",", ":")).replace('"weights":[', '"weights":[\n')
        arguments.out.write_text(text + "\n", "utf-8")
    check, queries, new = DomainCheck(content), held_out(), held_out("new_queries.txt")
    newest = held_out("questions_2026_11_29.txt")
    print("declined below", content["decline_below"])
    borderline = [query for query in queries if query.borderline]
    for name, part in (("all", queries), ("borderline", borderline), ("new", new), ("newest", newest)):
        found = measure(check, part)
        print(
            f"{name}: of declined about other things {found.precision}; of other things declined {found.recall}; "
            f"of medical ones passed {found.medical_passed}"
        )
        if arguments.wrong and name != "borderline":
            print(*found.wrong, sep="\n")


if __name__ == "__main__":
    main()
