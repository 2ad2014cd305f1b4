"""Pictures: what cannot be rebuilt."""

from tests.settings import Settings
from tests.settings.image import FINE, PIXELS

DFM = Settings(
    {**PIXELS, "pool_size": 1, "variance": 0.5},
    [{"measure": "nll", "pool_size": 2}],
    pictures={},
)
DFR = Settings(
    {**FINE, "max_epochs": 3, "lr": 0.02, "neighborhood": 1}, pictures={"max_epochs": 2}
)
FRE = Settings(
    {**PIXELS, "n_components": 2, "pool_size": 1},
    [{"pool_size": 2}],
    pictures={"n_components": 3},
)
