"""Descriptions: prompt, decoder, tokenizer, and checks of what was asked and written."""
