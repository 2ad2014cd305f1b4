"""Pictures: what cannot be rebuilt."""

from tests.settings import Settings

DFR = Settings({"layers": ("scale1",), "max_epochs": 5, "batch_size": 64, "lr": 0.01})
