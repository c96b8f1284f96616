"""Benchmarks against peers: each module is one run; `python -m bench` runs all of them and writes one report."""
