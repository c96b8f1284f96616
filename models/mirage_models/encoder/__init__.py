"""Encoders: from an open_clip checkpoint to a bundle with a text and an image tower."""
