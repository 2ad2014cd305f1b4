"""Single features."""

from tests.settings import Settings

COPOD = Settings(variants=[{"aggregation": "sample"}])
ECOD = Settings(variants=[{"aggregation": "sample"}])
HBOS = Settings(variants=[{"n_bins": "auto"}, {"binning": "dynamic"}])
