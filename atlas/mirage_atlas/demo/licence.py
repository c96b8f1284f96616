"""Licence and origin of the demonstration atlas's images, in the words of their sources."""

from __future__ import annotations

TEMPLATE_LICENCE = "mni-icbm152"
TEMPLATE_SOURCE = (
    "Rendered by this project from the MNI ICBM152 2009a nonlinear symmetric average brain (T1, grey and white matter maps) "
    "as shipped in the nilearn package"
)
TEMPLATE_ATTRIBUTION = (
    "ICBM152 2009a: V. Fonov, A. C. Evans, K. Botteron, C. R. Almli, R. C. McKinstry, D. L. Collins and BDCG. "
    "Copyright (C) 1993-2009 Louis Collins, McConnell Brain Imaging Centre, Montreal Neurological Institute, McGill University"
)
TEMPLATE_NOTICE = """\
Copyright (C) 1993-2009 Louis Collins, McConnell Brain Imaging Centre, Montreal Neurological Institute, McGill University.
Permission to use, copy, modify, and distribute this software and its documentation for any purpose and without fee is hereby
granted, provided that the above copyright notice appear in all copies. The authors and McGill University make no
representations about the suitability of this software for any purpose. It is provided "as is" without express or implied
warranty. The authors are not responsible for any data loss, equipment damage, property loss, or injury to subjects or patients
resulting from the use or misuse of this software package.
"""

SAMPLES_LICENCE = "mit"
SAMPLES_SOURCE = "Clinical test image of the pydicom project"
SAMPLES_ATTRIBUTION = "pydicom contributors; the package states the MIT licence"
