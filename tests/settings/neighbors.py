"""Neighbours."""

from tests.settings import Settings

ABOD = Settings(variants=[{"n_neighbors": None}, {"n_neighbors": 5, "weighted": False}])
CBLOF = Settings(variants=[{"n_clusters": 3, "use_weights": True}])
DistributedOutliers = Settings(
    {"n_clusters": 2, "n_init": 2}, [{"n_clusters": 1, "n_outliers": 0}]
)
COF = Settings(variants=[{"algorithm": "brute", "n_neighbors": 8}])
HDBSCANOutliers = Settings(variants=[{"min_cluster_size": 5, "min_samples": 2}])
KNN = Settings(
    variants=[
        {"method": "mean", "algorithm": "brute"},
        {"method": "median", "metric": "manhattan"},
        {"method": "weighted", "metric": "cosine"},
        {"metric": "sqeuclidean", "algorithm": "brute"},
        {"n_neighbors": 1, "max_samples": 20},
    ]
)
LDKNN = Settings(variants=[{"algorithm": "brute", "density_weight": 0.5}])
LOCI = Settings(variants=[{"alpha": 0.3, "n_min": 10, "n_radii": 8}])
LOF = Settings(variants=[{"algorithm": "brute"}])
LUNAR = Settings(
    {"max_epochs": 10, "hidden_sizes": (16,), "lr": 0.01}, [{"output": "score"}]
)
REPEN = Settings(
    {"max_epochs": 5, "code_size": 8, "n_subsamples": 10, "lr": 0.01},
    [{"hidden_sizes": (16,)}],
)
SOD = Settings(variants=[{"algorithm": "brute", "alpha": 1.2}])
SOS = Settings(variants=[{"perplexity": 10}, {"outliers_choose": False}])
