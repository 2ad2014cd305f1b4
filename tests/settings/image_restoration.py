"""Pictures: what cannot be rebuilt."""

from tests.settings import Settings
from tests.settings.image import FINE

DFR = Settings(
    {**FINE, "max_epochs": 3, "lr": 0.02, "neighborhood": 1}, pictures={"max_epochs": 2}
)
