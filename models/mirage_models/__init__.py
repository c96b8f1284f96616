"""Models of MIRAGE: presets, builders from checkpoints to bundles, and the bundles that come along."""

import mirage_core as mirage_core  # before any library that it keeps from reporting home
