"""Neighbours."""

from tests.settings import Settings

ABOD = Settings(variants=[{"n_neighbors": None}, {"n_neighbors": 5, "weighted": False}])
CBLOF = Settings(variants=[{"n_clusters": 3, "use_weights": True}])
COF = Settings(variants=[{"algorithm": "brute", "n_neighbors": 8}])
KNN = Settings(
    variants=[
        {"method": "mean", "algorithm": "brute"},
        {"method": "median", "metric": "manhattan"},
        {"method": "weighted", "metric": "cosine"},
        {"metric": "sqeuclidean", "algorithm": "brute"},
    ]
)
LDKNN = Settings(variants=[{"algorithm": "brute", "density_weight": 0.5}])
LOF = Settings(variants=[{"algorithm": "brute"}])
SOD = Settings(variants=[{"algorithm": "brute", "alpha": 1.2}])
