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
VIEWS = {
    "max_epochs": 10,
    "n_transformations": 4,
    "transform_size": 8,
    "code_size": 8,
    "lr": 0.01,
}
LENGTH = {"sign": "a row that is made longer keeps its anomaly"}

LOE = Settings(
    {**VIEWS, "max_epochs": 25}, [{"contamination_training": "hard"}], excused=LENGTH
)
NeuTraL = Settings(VIEWS, [{"transform_type": "multiply"}], excused=LENGTH)
