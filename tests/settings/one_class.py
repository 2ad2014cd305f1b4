"""One class: boundaries around normal rows."""

from sklearn.metrics.pairwise import laplacian_kernel

from tests.settings import Settings

SMALL = {"max_epochs": 10, "pretrain_epochs": 5, "hidden_sizes": (16,)}

AE1SVM = Settings(
    {
        "max_epochs": 10,
        "hidden_sizes": (16,),
        "latent_size": 8,
        "n_waves": 50,
        "lr": 0.01,
    }
)
DASVDD = Settings(
    {"max_epochs": 10, "hidden_sizes": (16,), "latent_size": 4, "lr": 0.01},
    [{"gamma": 0.0}],
)
DROCC = Settings({"max_epochs": 20, "hidden_sizes": (16,), "n_steps": 2, "lr": 0.01})
DeepSAD = Settings(SMALL)
DeepSVDD = Settings(SMALL, [{"objective": "soft-boundary", "n_warm_up_epochs": 2}])
IGD = Settings(
    {
        "max_epochs": 3,
        "hidden_sizes": (16,),
        "latent_size": 8,
        "batch_size": 64,
        "lr": 0.01,
    }
)
MOCCA = Settings(SMALL, [{"objective": "soft-boundary", "n_warm_up_epochs": 2}])
OCCNN = Settings(
    {"max_epochs": 30, "lr": 0.01},
    [{"normalize": False}],
    excused={
        "sign": "it is at zero that a row is anomalous, not far out",
        "feature": "it is at zero that a row is anomalous, not far out",
        ("one column", "normalize=True"): "a row of one has no variance",
    },
)
OCNN = Settings(
    {**SMALL, "n_hidden": 64, "latent_size": 8, "lr": 0.01}, [{"pretrain_epochs": 0}]
)
OneClassSVM = Settings(
    variants=[
        {"kernel": laplacian_kernel},
        {"solver": "nystroem", "n_basis": 20, "random_state": 0},
        {"solver": "fourier", "n_basis": 30, "random_state": 0},
    ]
)
SVDD = Settings(
    variants=[
        {"kernel": "linear"},
        {"kernel": "poly", "degree": 2, "coef0": 1.0, "gamma": "auto"},
        {"kernel": laplacian_kernel},
    ]
)
