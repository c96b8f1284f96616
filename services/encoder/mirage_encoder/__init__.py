"""The encoder service: texts and images to unit vectors of one space."""

import mirage_core as mirage_core  # before any library that it keeps from reporting home
