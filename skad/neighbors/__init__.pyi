from skad.neighbors._abod import ABOD as ABOD
from skad.neighbors._cblof import CBLOF as CBLOF
from skad.neighbors._cof import COF as COF
from skad.neighbors._distributed_outliers import DistributedOutliers as DistributedOutliers
from skad.neighbors._hdbscan_outliers import HDBSCANOutliers as HDBSCANOutliers
from skad.neighbors._knn import KNN as KNN
from skad.neighbors._ldknn import LDKNN as LDKNN
from skad.neighbors._loci import LOCI as LOCI
from skad.neighbors._lof import LOF as LOF
from skad.neighbors._lunar import LUNAR as LUNAR
from skad.neighbors._repen import REPEN as REPEN
from skad.neighbors._sod import SOD as SOD
from skad.neighbors._sos import SOS as SOS

__all__ = ["ABOD", "CBLOF", "COF", "DistributedOutliers", "HDBSCANOutliers", "KNN", "LDKNN", "LOCI", "LOF", "LUNAR", "REPEN", "SOD", "SOS"]
