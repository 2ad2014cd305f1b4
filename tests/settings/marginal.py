"""Single features."""

from tests.settings import Settings

COPOD = Settings(variants=[{"aggregation": "sample"}])
ECOD = Settings(variants=[{"aggregation": "sample"}])
HBOS = Settings(variants=[{"n_bins": "auto"}, {"binning": "dynamic"}])
LODA = Settings(variants=[{"n_projections": 40, "n_bins": 10}])
QMCD = Settings(variants=[{"rare": "skewness"}])
