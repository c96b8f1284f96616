"""Engines that run a bundle's ONNX files."""
