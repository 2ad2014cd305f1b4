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
LOF = Settings(variants=[{"algorithm": "brute"}])
