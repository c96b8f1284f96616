"""Free texts of a DICOM file that may be kept: names of windows and units, if they are made of known words only.

A header's text can hold anything, a patient's name too, so nothing is kept that is not on these lists.
"""

import re

_WORDS = frozenset(
    """
    abdomen abdominal adrenal air algo algo1 algo2 algo3 angio aorta auto automatic bone bones brain breast calcium
    cardiac cerebrum chest contrast coronary cta custom default disc ear emphysema fat fossa full hard harder head
    heart high inner kidney larynx linear liver low lung lungs mediastinal mediastinum muscle narrow neck normal orbit
    orbits original pancreas parenchyma pelvis petrous posterior preset range sigmoid sinus skin skull soft softer
    spine spleen standard stroke subdural temporal thorax tissue tissues trachea user vascular vessel vessels voi wide
    window
    """.split()  # noqa: SIM905 -- a list of strings would be one a line
)
_PART = re.compile(r"[a-z]+[0-9]?|[0-9]{1,2}")

# Rescale Type (C.11.1.1.2) and Units (0054,1001) that say something.
_UNITS = {
    "HU": "HU", "OD": "OD", "MGML": "mg/ml", "Z_EFF": "Z_EFF", "ED": "ED", "EDW": "EDW", "HU_MOD": "HU_MOD", "PCT": "PCT",
    "CNTS": "CNTS", "CM2": "CM2", "PCNT": "PCNT", "CPS": "CPS", "BQML": "BQML", "MGMINML": "MGMINML", "UMOLMINML": "UMOLMINML",
    "MLMING": "MLMING", "MLG": "MLG", "1CM": "1CM", "UMOLML": "UMOLML", "PROPCNTS": "PROPCNTS", "PROPCPS": "PROPCPS",
    "MLMINML": "MLMINML", "MLML": "MLML", "GML": "GML", "STDDEV": "STDDEV",
}  # fmt: skip
# Codes of the Unified Code for Units of Measure, as real world value mappings use them.
_UCUM = {
    "[hnsf'U]": "HU", "mm2/s": "mm2/s", "um2/s": "um2/s", "10-6.mm2/s": "10-6.mm2/s", "s": "s", "ms": "ms", "Bq/ml": "Bq/ml",
    "g/ml": "g/ml", "g/ml{SUVbw}": "g/ml{SUVbw}", "{SUVbw}g/ml": "g/ml{SUVbw}", "mg/ml": "mg/ml", "mg/cm3": "mg/cm3",
    "ml/ml": "ml/ml", "ml/(100.g)/min": "ml/(100.g)/min", "ml/(100.ml)": "ml/(100.ml)", "%": "%", "cm/s": "cm/s", "mm/s": "mm/s",
    "Hz": "Hz", "[ppm]": "ppm", "kPa": "kPa",
}  # fmt: skip


def window_name(text: str, number: int) -> str:
    """Returns a window's explanation if it is made of known words, else `window N`."""
    parts = re.split(r"[\s_\-/,.()]+", text.strip().lower())
    parts = [part for part in parts if part]
    known = bool(parts) and all(
        _PART.fullmatch(part) and (part.isdigit() or part in _WORDS or part.rstrip("0123456789") in _WORDS)
        for part in parts
    )
    return " ".join(text.split())[:64] if known and not all(part.isdigit() for part in parts) else f"window {number}"


def unit(rescale_type: str) -> str:
    """Returns a rescale type, or a unit of nuclear medicine, if the standard defines it and it says something; else ""."""
    return _UNITS.get(rescale_type, "")


def ucum(code: str) -> str:
    """Returns a known code of UCUM, else ""."""
    return _UCUM.get(code, "")
