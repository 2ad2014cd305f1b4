"""Reconstruction."""

from tests.settings import Settings

SMALL = {"max_epochs": 10, "hidden_sizes": (16,), "latent_size": 2}

AutoEncoder = Settings(SMALL)
MemAE = Settings({"max_epochs": 10, "hidden_sizes": (16,), "n_items": 20})
RaPP = Settings(SMALL, [{"measure": "sap"}])
RSRAE = Settings(
    {"max_epochs": 10, "lr": 0.005, "hidden_sizes": (16,), "code_size": 16},
    [{"alternating": False}],
)
VAE = Settings({**SMALL, "n_draws": 3}, [{"measure": "iwae", "variance": "shared"}])
