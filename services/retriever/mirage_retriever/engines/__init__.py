"""Engines that keep vectors and find the nearest."""
