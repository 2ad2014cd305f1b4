"""Pictures: the nearest among kept patches."""

from tests.settings import Settings
from tests.settings.image import FINE, PIXELS

PatchCore = Settings(
    {**PIXELS, "neighborhood": 1},
    [{"smoothing": 0, "n_neighbors": None, "neighborhood": 1}],
    excused={
        "check_outliers_fit_predict": "with contamination='auto': the farthest training"
        " patches are in the bank, at no distance from themselves"
    },
)
SPADE = Settings(FINE)
