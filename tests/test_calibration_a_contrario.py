"""Numbers of false alarms of regions: their formula, and what white noise raises."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy.ndimage import label
from scipy.special import gammaln, logsumexp
from scipy.stats import chi2, norm
from sklearn.base import BaseEstimator
from sklearn.ensemble import IsolationForest
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import KFold

from skad.calibration import AContrario
from skad.calibration._a_contrario import (
    log_false_alarms,
    log_polyominoes,
    log_tail,
)
from skad.density import Mahalanobis
from skad.image import PaDiM
from tests._pixels import Pixels


def shapes_of(n):
    """Return the shapes of n connected cells, each moved to the origin."""
    found = {frozenset({(0, 0)})}
    for _ in range(n - 1):
        more = set()
        for shape in found:
            for row, column in shape:
                for step in ((0, 1), (1, 0), (0, -1), (-1, 0)):
                    cell = (row + step[0], column + step[1])
                    if cell in shape:
                        continue
                    cells = [*shape, cell]
                    low = np.min(cells, axis=0)
                    more.add(frozenset((r - low[0], c - low[1]) for r, c in cells))
        found = more
    return found


def test_shapes_are_never_more_than_is_paid_for():
    counts = [len(shapes_of(n)) for n in range(1, 8)]
    assert counts == [1, 2, 6, 19, 63, 216, 760]
    paid = np.exp(log_polyominoes(np.arange(1, 8)))
    assert (paid > counts).all()
    assert (paid < 1.32 * np.array(counts)).all()


def test_tails_are_those_of_the_chi_square_however_far():
    n, s = np.array([1, 1, 2, 5, 400]), np.array([0.5, 60.0, 9.0, 300.0, 1500.0])
    assert_allclose(log_tail(n, s), chi2.logsf(s, n), rtol=1e-10)
    s = np.array([0.0, 1e3, 1e4, 1e20])
    assert_allclose(log_tail(np.full(4, 2), s), -s / 2, rtol=1e-12)
    expected = -s / 2 + np.log1p(s / 2)
    assert_allclose(log_tail(np.full(4, 4), s), expected, rtol=1e-12)
    n, s = np.full(2, 300), np.array([1900.0, 1950.0])  # either way
    i = np.arange(150)[:, None]
    exact = -s / 2 + logsumexp(i * np.log(s / 2) - gammaln(i + 1), axis=0)
    assert_allclose(log_tail(n, s), exact, rtol=1e-10)


def naive_log_false_alarms(z):
    """Return the same by all connected components of all upper level sets."""
    regions = {}
    for level in z.ravel():
        parts, n_parts = label(z >= level)
        for i in range(1, n_parts + 1):
            inside = parts == i
            n, s = inside.sum(), np.square(z[inside].clip(min=0)).sum()
            tests = z.size * (n + 1) * 0.316915 * 4.06257**n
            regions[frozenset(np.flatnonzero(inside))] = np.log(tests) + chi2.logsf(
                s, n
            )
    alone = np.log(z.size * 2 * 0.316915 * 4.06257) + norm.logsf(z.ravel())
    found = alone.copy()
    for cells, rate in regions.items():
        within = [other for part, other in regions.items() if part < cells]
        if rate <= min([*within, *alone[list(cells)]]):
            found[list(cells)] = np.minimum(found[list(cells)], rate)
    return found.reshape(z.shape)


def test_false_alarms_are_those_of_all_components_of_all_levels():
    rng = np.random.default_rng(0)
    for shape in [(6, 7), (1, 9), (1, 1), (8, 3)]:
        z = rng.normal(size=shape)
        z[:2, :3] += 2
        assert_allclose(
            log_false_alarms(z[None])[0], naive_log_false_alarms(z), rtol=1e-8
        )


def test_white_noise_raises_at_most_one_alarm_a_picture():
    rng, alarms = np.random.default_rng(0), []
    for _ in range(1500):
        found = log_false_alarms(rng.normal(size=(1, 10, 10)))
        alarms.append(len(np.unique(found[found < 0])))  # regions
    assert 0.2 < np.mean(alarms) <= 1
    assert np.mean(np.array(alarms) > 0) < 0.45


class Itself(BaseEstimator):
    """A detector whose map is the picture."""

    image_shape_ = (24, 20, 1)

    def fit(self, X=None, y=None):
        self.fitted_ = True
        return self

    def score_samples(self, X):
        return -np.asarray(X).max(axis=(1, 2))

    def transform(self, X):
        return np.asarray(X)


def test_noise_around_a_detector_and_a_faint_region():
    rng = np.random.default_rng(0)
    train, new = rng.normal(7, 3, (100, 24, 20)), rng.normal(7, 3, (600, 24, 20))
    strict = AContrario(
        FrozenEstimator(Itself().fit()), cell_size=4, n_false_alarms=0.05
    ).fit(train)
    assert_allclose([strict.mean_, strict.deviation_], [7, 3 / 4], rtol=0.02)
    assert np.mean(strict.predict(new) == -1) <= 0.05
    faint = new.copy()
    faint[:, 4:16, 8:16] += 2.5  # more than three deviations in each of six cells
    assert np.mean(strict.predict(faint) == -1) > 0.99
    z = new.reshape(600, 6, 4, 5, 4).mean(axis=(2, 4))
    z = (z - strict.mean_) / strict.deviation_
    maps = strict.transform(new[:9])
    assert_allclose(maps[:, ::4, ::4], -log_false_alarms(z[:9]))
    assert_array_equal(maps, maps[:, ::4, ::4].repeat(4, axis=1).repeat(4, axis=2))
    assert_allclose(strict.score_samples(new[:9]), -maps.max(axis=(1, 2)))
    assert_allclose(strict.offset_, np.log(0.05))


def test_normal_cells_are_of_pictures_that_were_not_learned_from():
    rng = np.random.default_rng(0)
    X = rng.uniform(size=(20, 8, 12))
    inner = PaDiM(backbone=Pixels, layers=("pixel",), smoothing=0)
    y = np.ones(20)
    y[3] = -1
    detector = AContrario(inner, cell_size=3, cv=KFold(4)).fit(X, y)
    maps = np.concatenate(
        [
            inner.fit(X[train], y[train]).transform(X[test][y[test] == 1])
            for train, test in KFold(4).split(X)
        ]
    )
    assert maps.shape == (19, 8, 12)
    cells = [
        maps[:, r:s, 3 * c : 3 * c + 3].mean(axis=(1, 2))
        for r, s in [(0, 2), (2, 5), (5, 8)]
        for c in range(4)
    ]
    assert_allclose(detector.mean_, np.mean(cells), rtol=1e-6)
    assert_allclose(detector.deviation_, np.std(cells), rtol=1e-6)
    seen = AContrario(inner, cell_size=3, cv=None).fit(X)
    assert seen.mean_ < detector.mean_


def test_pictures_as_rows_and_tensors_are_the_same():
    rng = np.random.default_rng(0)
    X, new = rng.uniform(size=(12, 6, 8)), rng.uniform(size=(5, 6, 8))
    inner = PaDiM(backbone=Pixels, layers=("pixel",), smoothing=0)
    found = AContrario(inner, cell_size=2, cv=3).fit(X).inspect(new)
    rows = AContrario(inner.set_params(image_shape=(6, 8)), cell_size=2, cv=3)
    rows.fit(X.reshape(12, -1))
    again = rows.inspect(new.reshape(5, -1))
    assert_allclose(again.scores, found.scores, rtol=1e-6)
    assert_allclose(again.maps.reshape(5, 6, 8), found.maps, rtol=1e-6)
    tensors = rows.inspect(torch.from_numpy(new.reshape(5, -1)))
    assert isinstance(tensors.maps, torch.Tensor)
    assert tensors.scores.dtype == torch.float64
    assert_allclose(tensors.scores, again.scores)


def test_what_cannot_be_calibrated_is_refused():
    X = np.random.default_rng(0).normal(size=(30, 4))
    with pytest.raises(TypeError, match="IsolationForest has no anomaly map"):
        AContrario(IsolationForest(n_estimators=5)).fit(X)
    with pytest.raises(ValueError, match="no normal one is left"):
        AContrario(Mahalanobis()).fit(X, -np.ones(30))
    # maps without any spread raise no alarm by rounding
    same = np.tile(np.random.default_rng(1).normal(size=(1, 24, 20)), (8, 1, 1))
    flat = AContrario(FrozenEstimator(Itself().fit()), cell_size=24).fit(same)
    assert (flat.predict(same + 1e-12) == 1).all()
