"""Verbs of the `mirage` command that run MIRAGE on this machine and back it up."""
