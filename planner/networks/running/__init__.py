"""Builds at run time: sessions, members, several networks together. Imports no `onnx`."""
