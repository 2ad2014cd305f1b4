"""Tasks whose answers the rows themselves give."""

from tests.settings import Settings

GOAD = Settings(
    {
        "max_epochs": 30,
        "lr": 0.01,
        "n_transformations": 8,
        "transform_size": 16,
        "code_size": 8,
    },
    [{"measure": "probability"}],
)
