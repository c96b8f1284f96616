"""Vectors of texts and images: preprocessing, tokenizer and the two towers."""
