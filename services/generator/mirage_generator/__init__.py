"""Synthetic images from a latent consistency model."""
