"""Measurements of the llm service's citation check and domain check."""
