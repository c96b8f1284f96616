"""The language model service: explanations from captions."""

import mirage_core as mirage_core  # before any library that it keeps from reporting home
