"""Streams in pieces: what is known after any of them is what one call would know."""

import copy
import inspect

import numpy as np
import pytest
from numpy.testing import assert_allclose

import skad
from skad import calibration
from tests._instances import (
    default_instance,
    identify,
    quick,
    seeded,
    variant_instances,
)

ROWS = np.random.default_rng(0).normal(size=(60, 3))
EDGES = np.stack(
    [np.arange(60) % 5, np.arange(60) % 7, np.arange(60) // 4], axis=1
).astype(float)


def trains_by_steps(detector):
    """Tell whether `partial_fit` is an epoch over what it gets, as for networks."""
    return "max_epochs" in inspect.signature(type(detector)).parameters


LEARNING = [
    detector
    for detector in map(default_instance, dict(skad.all_detectors()))
    if hasattr(detector, "partial_fit") and not trains_by_steps(detector)
]
STREAMING = [
    detector
    for detector in quick(
        [
            *map(default_instance, dict(skad.all_detectors())),
            *variant_instances(),
            skad.KMeansAD(n_clusters=3, window_size=3, align="end"),
            skad.LSTMAutoEncoder(window_size=3, align="end"),
            skad.MatrixProfile(window_size=3, align="end"),
            skad.SubsequenceKNN(window_size=3, stride=2, align="end"),
            skad.SubsequenceLOF(n_neighbors=5, window_size=4, stride=3, align="end"),
            skad.USAD(window_size=3, align="end"),
        ],
        max_epochs=1,
    )
    if hasattr(detector, "score_stream")
]


def data_of(detector):
    """Return what a detector learns from and what follows: rows, steps or edges."""
    rows = EDGES if type(detector).__name__.startswith("MIDAS") else ROWS
    return rows[:50], rows[50:]


@pytest.mark.parametrize("detector", LEARNING, ids=identify)
def test_pieces_teach_what_one_call_teaches(detector):
    known, follows = data_of(detector)
    whole = seeded(detector).partial_fit(known)
    parts = seeded(detector)
    for piece in np.split(known, (1, 2, 9, 40)):
        parts.partial_fit(piece)
    assert_allclose(
        parts.score_samples(follows), whole.score_samples(follows), rtol=1e-9
    )
    assert parts.offset_ == pytest.approx(whole.offset_, rel=1e-9)
    assert (parts.predict(follows) == whole.predict(follows)).all()


@pytest.mark.parametrize("detector", STREAMING, ids=identify)
def test_pieces_of_a_stream_leave_it_where_one_call_does(detector):
    known, follows = data_of(detector)
    fitted = seeded(detector).fit(known[:30])
    whole, parts = copy.deepcopy(fitted), copy.deepcopy(fitted)
    expected = whole.score_stream(known[30:])
    found = [parts.score_stream(piece) for piece in np.split(known[30:], (1, 2, 9))]
    # networks compute in single precision
    assert_allclose(np.concatenate(found), expected, rtol=1e-5)
    assert_allclose(parts.score_stream(follows), whole.score_stream(follows), rtol=1e-5)


# SPOT and DSPOT are fitted to a sample first.
THRESHOLDS = [
    (calibration.SPOT(risk=1e-2, level=0.9), 400),
    (calibration.DSPOT(depth=20, risk=1e-2, level=0.9), 400),
    *(
        (
            calibration.TelemanomThreshold(
                window_size=300, step_size=70, error_buffer=5, smoothing_span=5
            ),
            begin,
        )
        for begin in (1, 350, 400)
    ),
]


def test_every_threshold_of_a_stream_is_tested():
    names = {
        name
        for name in calibration.__all__
        if hasattr(getattr(calibration, name), "partial_fit")
    }
    assert names == {type(threshold).__name__ for threshold, _ in THRESHOLDS}


@pytest.mark.parametrize(("threshold", "begin"), THRESHOLDS, ids=identify)
def test_pieces_leave_a_threshold_where_one_call_does(threshold, begin):
    rng = np.random.default_rng(0)
    scores = rng.exponential(size=1200)
    scores[[*range(505, 525), *range(800, 815)]] += 8
    known, follows = scores[:1000], scores[1000:]
    whole = copy.deepcopy(threshold).partial_fit(known[:begin])
    parts = copy.deepcopy(whole)
    whole.partial_fit(known[begin:])
    for piece in np.split(known[begin:], [1, 2, 30, 108, 200, 205]):
        parts.partial_fit(piece)
    assert parts.threshold_ == pytest.approx(whole.threshold_, rel=1e-9)
    assert (parts.predict(follows) == whole.predict(follows)).all()
    assert (parts.predict(follows[:1]) == whole.predict(follows[:1])).all()
