"""RegressionForecaster: any regressor on lags, and errors on steps it has not seen."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import HuberRegressor, LinearRegression, Ridge, RidgeCV
from sklearn.neighbors import KNeighborsRegressor

from skad._stretches import remaining, time_folds
from skad.embedding._windows import evenly
from skad.series import RegressionForecaster
from skad.series._regression_forecaster import errors_of, lags_and_targets


def second_order(n, seed=0, first=1.5, second=-0.8):
    """Return an autoregressive series (n, 1) of two lags."""
    x = np.random.default_rng(seed).normal(size=n)
    for t in range(2, n):
        x[t] += first * x[t - 1] + second * x[t - 2]
    return x[:, None]


def machine(n, seed=0):
    """Return three noisy sines (n, 3), the last of which is noisy and large."""
    noise = np.random.default_rng(seed).normal(size=(n, 3)) * [0.1, 0.1, 20]
    return np.sin(np.arange(n)[:, None] / [3, 4, 5]) * [1, 1, 50] + noise


# -------------------------------------------------------------------------------- parts


@pytest.mark.parametrize("most", [2, 5, 9, 100])
def test_evenly_takes_as_many_as_it_may(most):
    counts = [4, 0, 3, 2]
    picked = evenly(counts, most)
    numbers = np.concatenate(
        [own + begin for own, begin in zip(picked, [0, 4, 4, 7], strict=True)]
    )
    assert len(numbers) == min(most, 9)
    assert_array_equal(numbers, np.arange(len(numbers)) * 9 // len(numbers))


def test_lags_come_before_targets_and_stay_in_their_series():
    series = [np.arange(12.0).reshape(6, 2), 100 + np.arange(8.0).reshape(4, 2)]
    lags, targets = lags_and_targets(series, 2, 1)
    assert_array_equal(lags[0], [0, 1, 2, 3])
    assert_array_equal(targets[:, 0], [4, 6, 8, 10, 104, 106])
    lags, targets = lags_and_targets(series, 2, 2, stride=2)
    assert_array_equal(targets, [[4, 5, 6, 7], [8, 9, 10, 11], [104, 105, 106, 107]])
    assert len(lags_and_targets(series, 2, 1, most=3)[0]) == 3


def test_errors_are_those_of_each_forecast_of_a_step():
    """The loop that the definition is: k forecasts of each step, from l steps each."""
    x, size, k = machine(40), 4, 3
    lags, targets = lags_and_targets([x], size, k)
    regressor = LinearRegression().fit(lags, targets)
    windows = np.lib.stride_tricks.sliding_window_view(x, size + 2 * k - 1, axis=0)
    found = errors_of(regressor, windows.transpose(0, 2, 1), size, k, k)
    for i, errors in enumerate(found):
        for step in range(k):
            t = i + size + k - 1 + step
            for ahead in range(1, k + 1):
                before = x[t - ahead - size + 1 : t - ahead + 1].reshape(1, -1)
                forecast = regressor.predict(before).reshape(k, 3)[ahead - 1]
                assert_allclose(errors[step, ahead - 1], x[t] - forecast, atol=1e-10)


# --------------------------------------------------------------------------- the method


def test_two_lags_are_least_squares():
    X, new = second_order(300), second_order(200, seed=1)
    detector = RegressionForecaster(
        Ridge(alpha=0, fit_intercept=False), window_size=2
    ).fit(X)
    weights = np.linalg.lstsq(np.column_stack([X[1:-1], X[:-2]]), X[2:, 0], rcond=None)[
        0
    ]
    residuals = new[2:, 0] - weights[0] * new[1:-1, 0] - weights[1] * new[:-2, 0]
    found = detector.transform(new)[2:, 0] * detector.scale_[0, 0] ** 2
    assert_allclose(found, residuals**2, rtol=1e-7, atol=1e-12)
    assert_allclose(
        -detector.score_samples(new)[2:], found / detector.scale_[0, 0] ** 2
    )
    assert_allclose(weights, [1.5, -0.8], atol=0.1)


@pytest.mark.parametrize("n", [150, 11_000])
def test_deviations_are_of_steps_that_are_held_out(n):
    """A neighbour knows its training steps by heart: there it makes no error."""
    X = machine(n)
    detector = RegressionForecaster(KNeighborsRegressor(1), window_size=4).fit(X)
    assert_allclose(-detector.score_samples(X)[4:], 0)
    assert_allclose(-detector.score_samples(X)[:4], 3)  # of which nothing is known
    squares = []
    folds = time_folds([n], 5)
    assert len(folds) == (5 if n == 150 else 1)
    for fold in folds:
        kept = [X[a:b] for _, a, b in remaining([n], fold, 5)]
        member = KNeighborsRegressor(1).fit(*lags_and_targets(kept, 4, 1))
        for _, a, b in fold:
            if b <= 4:
                continue
            lags, targets = lags_and_targets([X[max(0, a - 4) : b]], 4, 1)
            squares.append((member.predict(lags) - targets) ** 2)
    expected = np.sqrt(np.concatenate(squares).mean(axis=0))
    assert_allclose(detector.scale_, expected[None])
    new = detector.transform(machine(1000, seed=1))[4:]
    assert_allclose(new.mean(axis=0), 1, atol=0.35)  # in the units that are meant


def test_forests_flag_few_of_new_steps():
    forest = RandomForestRegressor(10, random_state=0)
    detector = RegressionForecaster(forest, window_size=4).fit(machine(800))
    new = machine(2000, seed=1)
    assert np.mean(detector.predict(new) == -1) < 0.1
    seen = RegressionForecaster(forest, window_size=4, contamination=0.05)
    assert np.mean(seen.fit(machine(800)).predict(new) == -1) > 0.15


def test_channels_count_by_their_own_errors():
    """The last channel is five hundred times as large, and no more anomalous."""
    detector = RegressionForecaster(window_size=20).fit(machine(2000))
    maps = detector.transform(machine(2000, seed=1))
    assert_allclose(maps[20:].mean(axis=0), 1, atol=0.2)


@pytest.mark.parametrize("horizon", [1, 3])
def test_streams_go_on_as_one_series(horizon):
    X = machine(300)
    detector = RegressionForecaster(window_size=7, horizon=horizon).fit(X[:200])
    whole = detector.score_samples(X)[200:]
    cuts = [0, 1, 2, 9, 40, 41, 100]
    parts = [detector.score_stream(X[200 + a : 200 + b]) for a, b in pairwise(cuts)]
    assert_allclose(np.concatenate(parts), whole, rtol=1e-9)


@pytest.mark.parametrize("horizon", [1, 4])
def test_no_score_looks_ahead(horizon):
    X = machine(200)
    detector = RegressionForecaster(window_size=5, horizon=horizon).fit(X)
    changed = X.copy()
    changed[120:] += 100
    before, after = detector.score_samples(X), detector.score_samples(changed)
    assert_allclose(before[:120], after[:120])
    assert (before[120:] > after[120:])[: horizon + 5].all()


def test_a_longer_horizon_is_surprised_for_longer():
    X = np.sin(np.arange(900) / 5)[:, None]
    X += 0.05 * np.random.default_rng(0).normal(size=X.shape)
    new = X[600:].copy()
    new[100:] += 1.0
    surprised = []
    for horizon in (1, 10):
        detector = RegressionForecaster(window_size=5, horizon=horizon).fit(X[:600])
        surprised.append((detector.predict(new)[100:115] == -1).sum())
    assert surprised[1] > surprised[0]


@pytest.mark.parametrize("horizon", [1, 3])
def test_steps_without_enough_before_them_say_nothing(horizon):
    X = machine(200) + 100
    detector = RegressionForecaster(window_size=6, horizon=horizon).fit(X)
    context = 6 + horizon - 1
    maps = detector.transform(X)
    assert_array_equal(maps[:context], np.full((context, 3), horizon))
    assert (maps[context] != horizon).all()
    detector.reset_stream()
    parts = [detector.score_stream(X[:4]), detector.score_stream(X[4:20])]
    found = np.concatenate(parts)
    assert_allclose(found, detector.score_samples(X[:20]))
    assert_allclose(found[:context], -3 * horizon)
    assert_allclose(found, detector.inspect(X[:20]).scores)


def test_regressors_for_one_target_are_cloned_for_each():
    X = machine(120)
    detector = RegressionForecaster(HuberRegressor(max_iter=500), window_size=2).fit(X)
    lags, targets = lags_and_targets([X], 2, 1)
    own = HuberRegressor(max_iter=500).fit(lags, targets[:, 1])
    assert_allclose(detector.regressor_.predict(lags)[:, 1], own.predict(lags))
    alone = RegressionForecaster(HuberRegressor(), window_size=2).fit(X[:, :1])
    assert isinstance(alone.regressor_, HuberRegressor)


def test_tensors_go_in_and_come_out():
    X = machine(200)
    expected = RegressionForecaster(window_size=5).fit(X)
    detector = RegressionForecaster(window_size=5).fit(torch.from_numpy(X))
    found = detector.score_samples(torch.from_numpy(X))
    assert isinstance(found, torch.Tensor)
    assert_allclose(found.numpy(), expected.score_samples(X))
    assert_allclose(detector.offset_, expected.offset_)


def test_series_in_groups_never_meet():
    X = np.concatenate([machine(100), 1000 + machine(80, seed=1)])
    groups = np.repeat([0, 1], [100, 80])
    detector = RegressionForecaster(window_size=4).fit(X, groups=groups)
    lags, targets = lags_and_targets([X[:100], X[100:]], 4, 1)
    assert_allclose(
        detector.regressor_.predict(lags), Ridge().fit(lags, targets).predict(lags)
    )
    alone = detector.score_samples(X[100:])
    assert_allclose(detector.score_samples(X, groups=groups)[100:], alone)


def test_constant_channels_have_no_error():
    X = np.column_stack([machine(100)[:, 0], np.full(100, 0.1)])
    detector = RegressionForecaster(window_size=3).fit(X)
    assert detector.scale_[0, 1] == 1
    assert detector.transform(X)[3:, 1].max() < 1e-20


def test_too_few_steps_are_an_error_or_a_warning():
    with pytest.raises(ValueError, match="fewer than window_size=8 and horizon=2 need"):
        RegressionForecaster(window_size=8, horizon=2).fit(machine(9))
    with pytest.warns(UserWarning, match="cannot be fitted without some of the 11"):
        RegressionForecaster(window_size=8, horizon=2).fit(machine(11))
    with pytest.raises(ValueError, match="RidgeCV cannot be fitted on the 2 rows"):
        RegressionForecaster(RidgeCV(cv=5), window_size=8).fit(machine(10))
