from skad.marginal._copod import COPOD as COPOD
from skad.marginal._ecod import ECOD as ECOD
from skad.marginal._hbos import HBOS as HBOS
from skad.marginal._loda import LODA as LODA
from skad.marginal._qmcd import QMCD as QMCD

__all__ = ["COPOD", "ECOD", "HBOS", "LODA", "QMCD"]
