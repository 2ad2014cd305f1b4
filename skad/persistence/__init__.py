"""Files that can be loaded from somebody else: safetensors and JSON, no pickle."""

from skad._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__)
