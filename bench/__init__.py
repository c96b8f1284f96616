"""Benchmarks against peers: each module is one run; `python -m bench` runs all of them and writes one report."""

import mirage_core as mirage_core  # before any library that it keeps from reporting home
