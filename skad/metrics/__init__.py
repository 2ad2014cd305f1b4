"""How good scores and maps are, given labels."""

from skad._lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {},
)
