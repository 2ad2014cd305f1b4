from skad.self_supervised._goad import GOAD as GOAD

__all__ = ["GOAD"]
