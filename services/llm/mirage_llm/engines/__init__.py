"""Engines that run a bundle's decoder."""
