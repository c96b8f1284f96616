"""Engines that run the ONNX files of encoders and generators."""
