"""Measures the answers of a collection: `mirage eval`."""
