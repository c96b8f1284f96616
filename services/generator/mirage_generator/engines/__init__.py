"""Engines that run a generator's ONNX files."""
