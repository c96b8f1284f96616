"""What runs a bundle's ONNX files."""
