"""Texts that people wrote for the evaluation, in files."""
