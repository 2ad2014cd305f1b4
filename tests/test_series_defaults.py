"""Defaults of every series detector on series that are short, flat, or have gaps.

Each works with finite scores, or says in one error what to write.
"""

import warnings

import numpy as np
import pytest

import skad
from tests._instances import identify, quick

N = 400


def hard_series():
    """Return series and groups by what is hard about them."""
    rng = np.random.default_rng(0)
    t = np.arange(N)
    wave = np.stack([np.sin(2 * np.pi * t / 60), np.cos(2 * np.pi * t / 60)], axis=1)
    wave += 0.1 * rng.normal(size=wave.shape)
    short = np.sin(2 * np.pi * t / 6)[:, None] + 0.1 * rng.normal(size=(N, 1))
    gaps = wave.copy()
    gaps[100:103, 0], gaps[200, 1] = np.nan, np.nan
    return {
        "period 6": (short, None),
        "NaN": (gaps, None),
        "five steps": (wave[:5], None),
        "a short group": (wave, np.repeat([0, 1, 2], [200, 197, 3])),
        "constants": (np.full((N, 2), 0.1), None),
    }


HARD = hard_series()

# Edges are no series, and their detectors take no groups.
DETECTORS = quick(
    [
        detector()
        for name, detector in skad.all_detectors()
        if detector._data == "series" and not name.startswith("MIDAS")
    ]
    + [
        skad.MatrixProfile(missing="skip"),
        skad.LeftMatrixProfile(missing="skip"),
        skad.MatrixProfile(align="end"),
        skad.SubsequenceKNN(align="end"),
    ],
    max_epochs=1,
)
for _one in DETECTORS:  # networks of few units, so that they take no time
    _small = {"hidden_size": 4, "hidden_sizes": (4,), "latent_size": 2, "stride": 10}
    _known = _one.get_params(deep=False)
    if "max_epochs" in _known:
        _one.set_params(**{k: v for k, v in _small.items() if k in _known})

# What an error has to say: a parameter, or how many steps there must be.
HELPS = ("window_size", "n_neighbors", "n_clusters", "rank", "steps", "NaN")


@pytest.mark.parametrize("case", HARD)
@pytest.mark.parametrize("detector", DETECTORS, ids=identify)
def test_defaults_work_or_say_what_to_write(detector, case):
    X, groups = HARD[case]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        error = None
        try:
            detector.fit(X, groups=groups)
        except ValueError as found:
            error = str(found)
        if error is not None:
            # only what has too few steps, or gaps that nobody allowed, may fail
            skips = getattr(detector, "missing", None) == "skip"
            assert case == "five steps" or (case == "NaN" and not skips)
            assert any(word in error for word in HELPS)
            return
        scores = detector.score_samples(X, groups=groups)
        assert np.isfinite(scores).all()
        if case == "a short group":
            rows = groups < 2
            alone = detector.score_samples(X[rows], groups=groups[rows])
            assert np.allclose(scores[rows], alone, rtol=1e-5)
        if hasattr(detector, "score_stream") and case != "NaN":
            begun = detector.reset_stream().score_stream(X[:2])
            assert np.allclose(begun, detector.score_samples(X[:2]), rtol=1e-4)
