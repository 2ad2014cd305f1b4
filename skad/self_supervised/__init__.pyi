from skad.self_supervised._goad import GOAD as GOAD
from skad.self_supervised._icl import ICL as ICL
from skad.self_supervised._loe import LOE as LOE
from skad.self_supervised._neutral import NeuTraL as NeuTraL

__all__ = ["GOAD", "ICL", "LOE", "NeuTraL"]
