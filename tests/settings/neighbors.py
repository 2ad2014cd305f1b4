"""Neighbours."""

from tests.settings import Settings

KNN = Settings(
    variants=[
        {"method": "mean", "algorithm": "brute"},
        {"method": "median", "metric": "manhattan"},
        {"method": "weighted", "metric": "cosine"},
        {"metric": "sqeuclidean", "algorithm": "brute"},
    ]
)
LOF = Settings(variants=[{"algorithm": "brute"}])
