"""The words of the training's texts, which the mini generator's checkpoint lists in `draws.json`."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from mirage_inference.bundles import Draws
from mirage_training.mini_generator.prompts import training_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mirage_atlas.demo.sections import SectionSpec
    from mirage_training.mini_generator.recipe import Recipe

ABOUT = "sections of one averaged brain as T1, T2 or FLAIR MRI: axial, coronal or sagittal, with or without one lesion"
LEAST_SHARE = 0.0005
"""Share of texts that a word must be in: misspelt ones are in fewer."""
_WORD = re.compile(r"[^\W_]+")
# Said of any picture; the model need not know them.
_REQUESTS = """
a an and any as at be but by can could create detailed do draw for generate get give good high i image images in is it like
make made me my new of on one or our photo picture please presentation produce realistic render resolution scan sharp show
simulate simulated slice some synthesise synthesize synthetic that the there this to us want we with would you
quality example view
"""
# Words that also name parts of the heart, the lungs or the rest of the body.
_ONLY_WITH: dict[str, tuple[str, ...]] = {
    "ventricle": ("lateral", "third", "fourth", "brain", "cerebral", "cerebrum", "head", "intracranial"),
    "ventricles": ("lateral", "brain", "cerebral", "cerebrum", "head", "intracranial", "axial", "coronal", "sagittal"),
    "atrium": ("lateral",),
    "atria": ("lateral",),
    "body": ("lateral", "caudate", "callosum", "nucleus", "ventricle"),
    "bodies": ("lateral", "caudate", "callosum", "nuclei", "ventricles"),
    "lobe": ("frontal", "parietal", "temporal", "occipital", "cerebellum", "insula", "brain"),
    "lobes": ("frontal", "parietal", "temporal", "occipital", "cerebellum", "insula", "brain"),
}


def draws(specs: Sequence[SectionSpec], recipe: Recipe) -> Draws:
    """Returns what is written as `draws.json`: the same for the same sections and recipe."""
    rng = np.random.default_rng([recipe.seed, 6])
    counted: Counter[str] = Counter()
    for _ in range(recipe.texts):
        text = training_text(specs[int(rng.integers(len(specs)))], rng)
        counted.update(set(_WORD.findall(text.casefold())))
    learnt = {word for word, count in counted.items() if count >= LEAST_SHARE * recipe.texts and not word.isdigit()}
    words = learnt | set(_REQUESTS.split())
    only_with = {
        word: tuple(other for other in others if other in words) for word, others in _ONLY_WITH.items() if word in words
    }
    return Draws(about=ABOUT, words=frozenset(words), only_with=only_with)
