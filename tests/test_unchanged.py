"""Scores and files of the version before: neither changes without being named."""

import pathlib

import numpy as np
import pytest
from numpy.testing import assert_allclose

import skad
from tests._recorded import record, recorded, rows, subjects

SUBJECTS = {key: subject for key, *subject in subjects()}
RECORDED = {
    key: scores for found in recorded().values() for key, scores in found.items()
}
FILES = pathlib.Path(__file__).parent / "files"


@pytest.mark.parametrize("key", sorted(SUBJECTS))
def test_scores_are_those_recorded(key):
    if key not in RECORDED:
        pytest.skip("new: `python -m tests._recorded` records it")
    expected = RECORDED[key]
    found = record(*SUBJECTS[key])
    # networks are trained in float32, whose rounding differs between processors
    trained = hasattr(SUBJECTS[key][0], "max_epochs")
    tolerance = 2e-3 if trained else 1e-6
    if key.endswith("-pictures") and not trained:
        tolerance = 1e-4  # frozen networks see them in float32
    assert_allclose(found, expected, rtol=tolerance, atol=tolerance * np.ptp(expected))


def test_nothing_is_recorded_of_what_is_gone():
    assert RECORDED.keys() <= SUBJECTS.keys()


@pytest.mark.parametrize("file", sorted(FILES.glob("0.1-*.skad")), ids=lambda f: f.stem)
def test_files_of_the_version_before_score_as_they_did(file):
    detector = skad.load(file)
    with np.load(FILES / "0.1-scores.npz") as before:
        expected = before[file.stem]
    test = rows()[1]
    assert_allclose(detector.score_samples(test), expected, rtol=1e-5, atol=1e-6)
    assert set(detector.predict(test)) <= {-1, 1}
