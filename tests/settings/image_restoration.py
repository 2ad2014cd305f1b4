"""Pictures: what cannot be rebuilt."""

from tests.settings import Settings
from tests.settings.image import FINE

DFR = Settings({**FINE, "max_epochs": 5, "lr": 0.01, "neighborhood": 1})
