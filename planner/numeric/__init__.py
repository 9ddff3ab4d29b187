"""Numeric steps before and after networks (resample, clip, scale, argmax ...) as one ONNX graph."""
