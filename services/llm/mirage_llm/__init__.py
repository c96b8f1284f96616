"""The language model service. So far: the prompt."""
