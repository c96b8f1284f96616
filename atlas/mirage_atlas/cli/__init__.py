"""Verbs of the `mirage` command that read datasets."""
