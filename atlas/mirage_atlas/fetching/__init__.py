"""Fetches published datasets from their own hosts. Only an operator's command starts it."""
