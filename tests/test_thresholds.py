"""Thresholds hold on new data: the share of new normal samples that `predict` flags.

Every public detector that takes a kind of data of `KINDS` is trained on normal samples
and shown new ones. A kind is a function that returns how to draw its samples. Pictures,
series and what looks through a classifier have files of their own; a test below says
that nobody is left out.
"""

from typing import NamedTuple

import numpy as np
import pytest

import skad
from tests import test_image_thresholds, test_ood_thresholds, test_series_thresholds
from tests._instances import CHEAP, seeded, settings_of

N_FRESH = 2000
SEEDS = range(5)
# Number of training samples: the bounds of the mean share over five draws.
BOUNDS = {100: (0.02, 0.12), 1000: (0.03, 0.08)}
# More draws than `SEEDS` where those are few for it: ALOCC and OCNN get .017 by
# chance, sixty and twelve give .048 and .034.
DRAWS = {"ALOCC": 20, "OCNN": 20}


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

# Detectors that no test of thresholds shows new samples to, with the reason, beside
# those with a threshold of their own, who say so by `_honesty`.
EXEMPT = {
    "DOC": "learns beside a reference set: test_image_doc has one",
    "DRA": "learns from known anomalies: test_image_dra has them",
    "MIDAS": "edges of a graph: none is a draw like another",
    "MIDASR": "edges of a graph: none is a draw like another",
    "MixedSupervision": "learns from marked pictures: test_supervised_mixed has them",
}

# Detectors of which `make test` takes one draw, with wider bounds, and `make test-all`
# five: they take more than a third of a second each.
SLOW = {"ALAD", "FeatureBagging", "IsolationForest", "KernelPCAReconstruction"}
SLOW |= {"DIF", "ScoreEnsemble"}
WIDER = {100: (0.005, 0.2), 1000: (0.02, 0.1)}


def on_known_data():
    """Return the names of detectors that hold, and whose kind of data is known here."""
    return [
        name
        for name, detector in skad.all_detectors()
        if detector._data in KINDS
        and detector._honesty != "its own"
        and name not in EXEMPT
    ]


def covered():
    """Return a parameter for each of them and its number of draws."""
    found = []
    for name in on_known_data():
        marks = [pytest.mark.full] if name in SLOW else []
        draws = DRAWS.get(name, len(SEEDS))
        found.append(pytest.param(name, draws, id=name, marks=marks))
        if name in SLOW:
            found.append(pytest.param(name, 1, id=f"{name}, one draw"))
    return found


def flagged(name, n, seed):
    """Return the share of new normal samples that a detector flags."""
    detector = getattr(skad, name)
    kind = KINDS[detector._data](seed)
    settings = CHEAP.get(name, {}) if detector.__module__ in _TRAINED else {}
    known = {}
    if settings_of(name).labels:  # it needs known anomalies
        known = {"X_outliers": 3 * kind.train(max(5, n // 20))}
    fitted = seeded(detector(**settings)).fit(kind.train(n), **known)
    return (fitted.predict(kind.fresh(N_FRESH)) == -1).mean()


_TRAINED = {
    detector.__module__
    for _, detector in skad.all_detectors()
    if "max_epochs" in detector._parameter_constraints
}


@pytest.mark.by_turns
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("n", BOUNDS)
@pytest.mark.parametrize(("name", "draws"), covered())
def test_few_new_normal_samples_are_flagged(name, draws, n, record_property):
    share = float(np.mean([flagged(name, n, seed) for seed in range(draws)]))
    record_property("flagged", round(share, 3))
    low, high = (WIDER if draws == 1 else BOUNDS)[n]
    assert low <= share <= high


def test_every_detector_is_shown_new_samples():
    """Here, in the file of its kind of data, or there is a reason."""
    own = {name for name, cls in skad.all_detectors() if cls._honesty == "its own"}
    pictures = {
        type(detector).__name__
        for detector in (
            test_image_thresholds.EVERY | test_image_thresholds.REAL
        ).values()
    }
    shown = [
        set(on_known_data()),
        {name for name, _ in test_ood_thresholds.OOD},
        set(test_series_thresholds.SETTINGS),
        pictures,
    ]
    names = {name for name, _ in skad.all_detectors()}
    assert set().union(*shown) | own | set(EXEMPT) == names
    assert not set().union(*shown) & set(EXEMPT)
    assert set(on_known_data()) >= SLOW | set(DRAWS)


def test_plain_training_scores_do_not_hold():
    # the test above would tell
    shares = []
    for seed in SEEDS:
        kind = tables(seed)
        X = kind.train(100)
        detector = skad.Mahalanobis(contamination=0.05).fit(X)
        shares.append((detector.predict(kind.fresh(N_FRESH)) == -1).mean())
    assert np.mean(shares) > BOUNDS[100][1]
