from skad.neighbors._cblof import CBLOF as CBLOF
from skad.neighbors._knn import KNN as KNN
from skad.neighbors._ldknn import LDKNN as LDKNN
from skad.neighbors._lof import LOF as LOF

__all__ = ["CBLOF", "KNN", "LDKNN", "LOF"]
