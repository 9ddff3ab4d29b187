"""ONNX files into canonical structures and numbers, and back."""
