"""What runs a generator's ONNX files."""
