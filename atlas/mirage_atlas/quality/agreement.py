"""Agreement of raters: Krippendorff's alpha.

Source: K. Krippendorff, "Computing Krippendorff's Alpha-Reliability" (2011), whose worked examples are the tests. The package
`krippendorff` is under the GPL, and NLTK's lacks ordinal distance.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

Scale = Literal["nominal", "ordinal", "interval"]
Floats = npt.NDArray[np.float64]


def alpha(units: Sequence[Sequence[float]], scale: Scale) -> float | None:
    """Returns the agreement on units, each with the values that raters gave it: 1 is agreement, 0 chance.

    Values of the nominal scale are numbers that stand for classes. Units with one value say nothing. None if no unit has
    two, or if all values are the same: then agreement and habit look the same.
    """
    paired = [unit for unit in units if len(unit) > 1]
    classes, places = np.unique([value for unit in paired for value in unit], return_inverse=True)
    if len(classes) < 2:
        return None
    coincidences = np.zeros((len(classes), len(classes)))
    start = 0
    for unit in paired:
        counts = np.bincount(places[start : start + len(unit)], minlength=len(classes)).astype(np.float64)
        coincidences += (np.outer(counts, counts) - np.diag(counts)) / (len(unit) - 1)
        start += len(unit)
    totals: Floats = coincidences.sum(axis=0)
    distances = _distances(classes, totals, scale)
    observed = (coincidences * distances).sum()
    expected = (np.outer(totals, totals) * distances).sum() / (totals.sum() - 1)
    return float(1 - observed / expected)


def _distances(classes: Floats, totals: Floats, scale: Scale) -> Floats:
    """The squared distance of each class to each."""
    if scale == "nominal":
        return 1 - np.eye(len(classes))
    # Of an ordinal scale: the ranks between two classes, half of each at both ends.
    values = classes if scale == "interval" else np.cumsum(totals) - totals / 2
    squared: Floats = np.subtract.outer(values, values) ** 2
    return squared
