"""Densities."""

from tests.settings import Settings

# numbers far out have few neighbours in finer tables, as those inside have
ContingencyTables = Settings(
    {"n_bins": 3},
    excused={
        "outliers": "copies count less, and the threshold is no lower than theirs",
        "text of frames": "it is taken as categories",
    },
)
DAGMM = Settings({"max_epochs": 10, "hidden_sizes": (16,)})
GMM = Settings(
    variants=[
        {"n_components": 2, "covariance_type": "tied", "random_state": 0},
        {"covariance_type": "diag"},
        {"covariance_type": "spherical"},
    ]
)
InvertibleHierarchies = Settings(
    {
        "n_scales": 1,
        "n_steps": 1,
        "hidden_size": 4,
        "general_epochs": 4,
        "max_epochs": 4,
        "lr": 0.02,
        "mutation": 0.5,
        "batch_size": 64,
    },
    [{"measure": "last_scale", "n_scales": 2, "outlier_weight": 1.0}],
    pictures={
        "n_steps": 1,
        "hidden_size": 4,
        "general_epochs": 1,
        "max_epochs": 1,
    },
)
SOM = Settings({"map_shape": (2, 2), "n_epochs": 5}, [{"map_shape": (3, 1)}])
KDE = Settings(variants=[{"kernel": "exponential", "bandwidth": "scott"}])
Mahalanobis = Settings(
    variants=[
        {"covariance": "ledoit_wolf"},
        {"covariance": "oas"},
        {"covariance": "mcd", "random_state": 0},
    ]
)
