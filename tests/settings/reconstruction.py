"""Reconstruction."""

from tests.settings import Settings

SMALL = {"max_epochs": 10, "hidden_sizes": (16,), "latent_size": 2}

AutoEncoder = Settings(SMALL)
DPNoveltySGD = Settings({**SMALL, "noise_multiplier": 0.01}, [{"max_grad_norm": 0.1}])
LikelihoodRegret = Settings(
    {**SMALL, "n_draws": 2, "n_search_steps": 5}, [{"refit": "encoder"}]
)
MemAE = Settings({"max_epochs": 10, "hidden_sizes": (16,), "n_items": 20})
RaPP = Settings(SMALL, [{"measure": "sap"}])
RCA = Settings(SMALL, [{"outlier_fraction": 0.5, "n_falling_epochs": 2}])
RSRAE = Settings(
    {**SMALL, "latent_size": 4, "code_size": 8, "lr": 0.005},
    [{"alternating": False}],
    excused={"feature": "a direction has no feature that is far out"},
)
SparseCoding = Settings(
    {"n_components": 6, "max_epochs": 3, "random_state": 0}, [{"n_nonzero": 2}]
)
VAE = Settings({**SMALL, "n_draws": 3}, [{"measure": "iwae", "variance": "shared"}])
