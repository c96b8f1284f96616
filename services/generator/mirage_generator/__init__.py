"""Synthetic images from a diffusion model."""

import mirage_core as mirage_core  # before any library that it keeps from reporting home
