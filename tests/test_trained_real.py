"""What training is worth on the shared real series.

As `test_trained` has it for tables, and for pictures and series that are drawn. `BELOW`
names the networks that are no better than themselves untrained or something simple,
with the figure, which their docstrings state.
"""

import pytest

from tests._series_data import load_machine, load_series
from tests.test_trained import CHEAP, TRAINED, check_training, norms

# Steps that train, and scored ones around the first anomaly.
STEPS = 1000
BELOW = {}


@pytest.fixture(scope="module")
def series(shared):
    """Return training steps, scored ones and labels, 1 an anomaly, of each series."""
    found = []
    for name in ("nab_nyc_taxi", "nab_ec2_latency", "ucr_135", "ucr_136"):
        X, y = load_series(shared, name)
        start = max(STEPS, y.argmax() - STEPS // 2)
        train, test = slice(start - STEPS, start), slice(start, start + STEPS)
        X = (X - X[train].mean(axis=0)) / X[train].std(axis=0)
        found.append((X[train], X[test], y[test]))
    train, X, y, _ = load_machine(shared, "smd_1-7")
    start = max(0, y.argmax() - STEPS // 2)
    place = slice(start, start + STEPS)
    found.append((train[-STEPS:], X[place], y[place]))
    return found


@pytest.mark.full
@pytest.mark.parametrize("name", TRAINED["series"])
def test_training_on_real_series_is_worth_its_time(name, series):
    check_training(TRAINED["series"][name], series, norms, CHEAP.get(name, {}), BELOW)
