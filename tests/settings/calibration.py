"""Around any detector: thresholds and probabilities."""

import skad
from tests.settings import Settings

AContrario = Settings(
    {"cell_size": 2.0, "cv": 2},
    excused={"feature": "the map is of regions, all of whose features have one value"},
)
# rates that few rows can show
ConformalDetector = Settings(
    {"false_alarm_rate": 0.2}, [{"method": "cross", "n_splits": 2}]
)
EVTThreshold = Settings({"risk": 0.05})
ProbabilityCalibrator = Settings(
    variants=[{"detector": skad.ECOD(), "method": "gamma"}]
)
QuantileThreshold = Settings(variants=[{"cv": 2}])
