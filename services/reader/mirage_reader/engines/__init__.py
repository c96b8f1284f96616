"""Engines that write a reading."""
