"""Neighbours."""

from tests.settings import Settings

CBLOF = Settings(variants=[{"n_clusters": 3, "use_weights": True}])
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
