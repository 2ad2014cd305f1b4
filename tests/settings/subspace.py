"""Subspaces."""

from tests.settings import Settings

CookDistance = Settings(
    excused={"feature": "a value far out pulls at the regressions of all others"}
)
KernelPCAReconstruction = Settings(
    variants=[
        {"kernel": "linear"},
        {"kernel": "poly", "degree": 2, "gamma": "auto"},
        {"kernel": "sigmoid", "gamma": 1e-4},
        {"max_samples": 15, "random_state": 0},
    ]
)
MatrixSketch = Settings(
    variants=[{"n_components": 1, "measure": "projection", "sketch_size": 3}]
)
PCAReconstruction = Settings(
    variants=[
        {"measure": "reconstruction", "n_components": 0.35},
        {"measure": "hotelling"},
        {"n_components": None, "standardize": True},
    ]
)
ROD = Settings(variants=[{"max_subspaces": 18}])
SelfRepresentation = Settings(
    {"alpha": 2.0, "n_steps": 20},
    excused={"sign": "the length of a row does not count"},
)
