"""Runs all services of MIRAGE on one machine."""
