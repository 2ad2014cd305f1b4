"""Pictures and reports of what any detector finds, made from outside."""

from skad._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__)
