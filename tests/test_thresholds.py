"""Thresholds hold on new data: the share of new normal samples that `predict` flags.

Every public detector of data of `KINDS` is trained on normal samples and shown new
ones. A kind is a function that returns how to draw its samples; detectors of other
kinds are added with theirs.
"""

from typing import NamedTuple

import numpy as np
import pytest

import skad
from tests._instances import CHEAP, seeded

N_FRESH = 2000
SEEDS = range(5)
# Number of training samples: the bounds of the mean share over five draws.
BOUNDS = {100: (0.02, 0.12), 1000: (0.03, 0.08)}


class Draw(NamedTuple):
    """How to draw normal samples of one distribution: `train(n)` and `fresh(n)`."""

    train: callable
    fresh: callable


def tables(seed):
    """Return rows of a Gaussian with 10 correlated features, another for each seed."""
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(10, 10))

    def draw(n):
        return rng.normal(size=(n, 10)) @ mixing

    return Draw(draw, draw)


# By what detectors look at, how to draw it.
KINDS = {"rows": tables}

# Families whose detectors do not hold their thresholds yet: empty it to switch them on.
PENDING = {"adversarial", "reconstruction"}
# The same for single detectors of other families.
PENDING_DETECTORS = {"DAGMM", "DeepSAD", "DeepSVDD"}

# Detectors that cannot hold it by their nature, with the reason; those with a threshold
# of their own say so by `_honesty`.
EXEMPT = {}

# Detectors that take more than a second each: `make test-all` runs them.
SLOW = {"FeatureBagging", "KernelPCAReconstruction", "ScoreEnsemble"}


def family(detector):
    return detector.__module__.split(".")[1]


def covered():
    """Return a parameter for each detector of data that can be drawn."""
    found = []
    for name, detector in skad.all_detectors():
        if detector._data not in KINDS:
            continue
        marks = []
        if detector._honesty == "its own":
            continue
        if name in EXEMPT:
            marks.append(pytest.mark.skip(reason=EXEMPT[name]))
        if family(detector) in PENDING or name in PENDING_DETECTORS:
            marks.append(pytest.mark.skip(reason="its threshold does not hold yet"))
        if name in SLOW:
            marks.append(pytest.mark.full)
        found.append(pytest.param(name, detector, id=name, marks=marks))
    return found


def flagged(name, detector, n, seed):
    """Return the share of new normal samples that a detector flags."""
    kind = KINDS[detector._data](seed)
    settings = CHEAP.get(name, {}) if detector.__module__ in _TRAINED else {}
    fitted = seeded(detector(**settings)).fit(kind.train(n))
    return (fitted.predict(kind.fresh(N_FRESH)) == -1).mean()


_TRAINED = {
    detector.__module__
    for _, detector in skad.all_detectors()
    if "max_epochs" in detector._parameter_constraints
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("n", BOUNDS)
@pytest.mark.parametrize(("name", "detector"), covered())
def test_few_new_normal_samples_are_flagged(name, detector, n, record_property):
    share = float(np.mean([flagged(name, detector, n, seed) for seed in SEEDS]))
    record_property("flagged", round(share, 3))
    low, high = BOUNDS[n]
    assert low <= share <= high


def test_what_is_pending_or_exempt_exists():
    names = {name for name, _ in skad.all_detectors()}
    assert names >= PENDING_DETECTORS | set(EXEMPT) | SLOW
    assert set(skad._FAMILIES) >= PENDING


def test_plain_training_scores_do_not_hold():
    # the test above would tell
    shares = []
    for seed in SEEDS:
        kind = tables(seed)
        X = kind.train(100)
        detector = skad.Mahalanobis(contamination=0.05).fit(X)
        shares.append((detector.predict(kind.fresh(N_FRESH)) == -1).mean())
    assert np.mean(shares) > BOUNDS[100][1]
