from skad.export._onnx import to_onnx as to_onnx

__all__ = ["to_onnx"]
