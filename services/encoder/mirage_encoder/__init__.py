"""The encoder service: texts and images to unit vectors of one space."""
