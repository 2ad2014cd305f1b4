"""Squared distances: as exact as differences, whatever stray values there are."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from scipy.spatial.distance import cdist

import skad
from skad._distances import middle, squared_distances

LIBRARIES = pytest.mark.parametrize("library", [np.asarray, torch.as_tensor])
STRAYS = pytest.mark.parametrize(
    ("dtype", "value"), [("float32", 9_999_999), ("float64", 1e12), ("float64", -1e15)]
)
DETECTORS = {
    "kde": skad.KDE(bandwidth=0.8),
    "kde exponential": skad.KDE(bandwidth=0.8, kernel="exponential"),
    "svm": skad.OneClassSVM(gamma=0.2),
    "svm nystroem": skad.OneClassSVM(gamma=0.2, solver="nystroem", random_state=0),
    "svdd": skad.SVDD(gamma=0.2),
    "kernel pca": skad.KernelPCAReconstruction(gamma=0.2),
}


def rows_with_strays(dtype, value):
    rng = np.random.default_rng(0)
    X, probe = rng.normal(size=(300, 5)), rng.normal(size=(100, 5))
    probe[50:] *= 2.5
    stray = X.copy()
    stray[[7, 8, 50], [2, 2, 4]] = value
    return tuple(part.astype(dtype) for part in (X, stray, probe))


@LIBRARIES
@STRAYS
def test_distances_are_those_of_differences(library, dtype, value):
    _, X, probe = rows_with_strays(dtype, value)
    Y = np.concatenate([probe, X[6:9] + np.array(0.5, dtype)])
    found = squared_distances(library(X), library(Y), middle(library(X)))
    exact = cdist(X.astype(float), Y.astype(float), "sqeuclidean")
    tolerance = 1e-4 if dtype == "float32" else 1e-6
    assert_allclose(np.asarray(found), exact, rtol=tolerance, atol=tolerance)


@LIBRARIES
@STRAYS
@pytest.mark.parametrize("name", DETECTORS)
def test_stray_values_leave_the_ranking(name, dtype, value, library):
    X, stray, probe = rows_with_strays(dtype, value)
    detector = DETECTORS[name]
    clean = np.asarray(detector.fit(library(X)).score_samples(library(probe)))
    dirty = detector.fit(library(stray))
    scores = np.asarray(dirty.score_samples(library(probe)))
    order = np.corrcoef(np.argsort(np.argsort([clean, scores])))[0, 1]
    assert order > 0.98
    maps = np.asarray(dirty.transform(library(probe)))
    assert np.isfinite(maps).all()
