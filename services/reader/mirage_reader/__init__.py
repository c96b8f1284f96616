"""The reader: an image read step by step."""

import mirage_core as mirage_core  # before any library that it keeps from reporting home
