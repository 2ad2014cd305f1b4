from skad.density._contingency_tables import ContingencyTables as ContingencyTables
from skad.density._dagmm import DAGMM as DAGMM
from skad.density._gmm import GMM as GMM
from skad.density._invertible_hierarchies import InvertibleHierarchies as InvertibleHierarchies
from skad.density._kde import KDE as KDE
from skad.density._mahalanobis import Mahalanobis as Mahalanobis
from skad.density._som import SOM as SOM

__all__ = ["ContingencyTables", "DAGMM", "GMM", "InvertibleHierarchies", "KDE", "Mahalanobis", "SOM"]
