"""Pictures: the nearest among kept patches."""

from tests.settings import Settings
from tests.settings.image import FINE, PIXELS

FAPM = Settings(
    {**PIXELS, "neighborhood": 1},
    excused={"outliers": "the banks hold the farthest of the training patches"},
)
InReaCh = Settings(
    {**PIXELS, "neighborhood": 1, "min_length": 1},
    excused={"outliers": "the bank holds far patches that recur"},
)
PatchCore = Settings(
    {**PIXELS, "neighborhood": 1},
    [{"smoothing": 0, "n_neighbors": 9, "neighborhood": 1}],
    excused={"outliers": "the bank holds the farthest of the training patches"},
)
SoftPatch = Settings(
    {**PIXELS, "neighborhood": 1},
    excused={"outliers": "the bank holds far patches that others rate as normal"},
)
SPADE = Settings(FINE)
