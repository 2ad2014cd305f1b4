"""Pictures: what cannot be rebuilt."""

from tests.settings import Settings
from tests.settings.image import FINE, PIXELS

PAIRS = "two features are one place"
SMALL = {"channels": 2, "batch_size": 512, "max_epochs": 2, "lr": 0.01}

AVID = Settings(
    {**SMALL, "max_epochs": 3},
    [{**SMALL, "measure": "inpainter"}],
    pictures={"channels": 2, "max_epochs": 1},
)
AnoSeg = Settings(
    SMALL,
    excused={"feature": "it marks what looks pasted, not values that are far"},
    pictures={"channels": 2, "max_epochs": 1},
)
CPC = Settings(
    {
        "batch_size": 512,
        "max_epochs": 1,
        "code_size": 4,
        "n_steps": 1,
        "n_negatives": 8,
    },
    [{"n_steps": 2}],
    excused={
        "sign": "of six features with nothing beside them there is nothing to predict",
        "feature": "a patch is all six features",
    },
    pictures={"max_epochs": 1, "code_size": 4, "n_steps": 1, "n_negatives": 8},
)
DFM = Settings(
    {**PIXELS, "pool_size": 1, "variance": 0.5},
    [{"measure": "nll", "pool_size": 2}],
    excused={("feature", "pool_size=2"): PAIRS},
    pictures={},
)
DFR = Settings(
    {**FINE, "max_epochs": 3, "lr": 0.02, "neighborhood": 1}, pictures={"max_epochs": 2}
)
FRE = Settings(
    {**PIXELS, "n_components": 2, "pool_size": 1},
    [{"n_components": 1}],
    pictures={"n_components": 3},
)
OCRGAN = Settings(
    {**SMALL, "channels": 1},
    excused={"feature": "what is far in one feature is restored badly around it too"},
    pictures={"channels": 2, "max_epochs": 1},
)
PositiveSamples = Settings(
    {**SMALL, "smoothing": 0},
    excused={
        "sign": "which of two features is larger says little of how far they are",
        "feature": "what is far in one feature changes the patterns around it too",
    },
    pictures={"channels": 2, "max_epochs": 1},
)
SCADN = Settings(
    {
        "n_stripes": (2,),
        "channels": 2,
        "n_blocks": 0,
        "batch_size": 512,
        "max_epochs": 1,
        "lr": 0.01,
    },
    pictures={"channels": 2, "n_blocks": 1, "max_epochs": 1},
)
VideoGAN = Settings(
    {**SMALL, "smoothing": 0},
    [{**SMALL, "measure": "discriminators"}],
    pairs=True,
    excused={
        ("sign", "discriminators"): "critics have never seen what is far",
        ("feature", "discriminators"): "a patch is all six features",
    },
    pictures={"channels": 2, "max_epochs": 1},
)
