"""SeasonalTrendResiduals: what seasons and a trend leave, and how they go on."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn import config_context
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import check_estimator

from skad.series import SeasonalTrendResiduals, WindowDetector, ZScore
from skad.series._seasonal_trend import median_before, repeated

seasonal = pytest.importorskip("statsmodels.tsa.seasonal")


def sum_of_seasons(n, seed=0, noise=0.1):
    """Return a day, a week and growth (n, 2), with noise."""
    t = np.arange(n)[:, None]
    X = np.sin(2 * np.pi * t / 12) + 2 * np.cos(2 * np.pi * t / 84) * [1, 3]
    X = X + 0.01 * t + [0, 50]
    return X + noise * np.random.default_rng(seed).normal(size=X.shape)


# -------------------------------------------------------------------------------- parts


def test_median_before_is_the_loop():
    values = np.random.default_rng(0).normal(size=(40, 2))
    found = median_before(values, 7)
    expected = [np.median(values[t - 7 : t], axis=0) for t in range(7, 40)]
    assert_array_equal(found, expected)
    assert median_before(values[:7], 7).shape == (0, 2)


def test_cycles_go_on_in_phase():
    short, long = np.arange(3.0)[:, None], 10 * np.arange(4.0)[:, None]
    assert_array_equal(repeated([short, long], 7)[:, 0], [0, 11, 22, 30, 1, 12, 20])


# ------------------------------------------------------------------------ the transform


@pytest.mark.parametrize("robust", [True, False])
def test_training_residuals_are_those_of_stl(robust):
    X = sum_of_seasons(200)
    found = SeasonalTrendResiduals(12, robust=robust).fit_transform(X)
    for i in range(2):
        expected = seasonal.STL(X[:, i], period=12, robust=robust).fit().resid
        assert_allclose(found[:, i], expected, atol=1e-12)


def test_training_residuals_of_two_seasons_are_those_of_mstl():
    X = sum_of_seasons(400)
    transformer = SeasonalTrendResiduals([84, 12], robust=False).fit(X)
    for i in range(2):
        expected = seasonal.MSTL(X[:, i], periods=(12, 84)).fit().resid
        assert_allclose(transformer.transform(X)[:, i], expected, atol=1e-12)
    assert transformer.periods_ == [12, 84]


@pytest.mark.parametrize("place", [300, 900])  # among the training steps, and new
def test_a_spike_stands_out_of_two_seasons_and_a_trend(place):
    X = sum_of_seasons(1000)
    X[place, 0] += 1.5  # far less than the seasons
    residuals = SeasonalTrendResiduals((12, 84)).fit(X[:700]).transform(X)
    strength = np.abs(residuals[:, 0]) / residuals[:, 0].std()
    assert strength.argmax() == place
    assert strength[place] > 2 * np.delete(strength, place).max()
    assert np.abs(X[:, 0] - X[:, 0].mean()).argmax() != place


def test_new_steps_have_the_residuals_of_the_definition():
    X = sum_of_seasons(500)
    transformer = SeasonalTrendResiduals([12, 84]).fit(X[:400])
    cycles = transformer.cycles_[None]
    training = np.array(
        [
            seasonal.MSTL(X[:400, i], periods=(12, 84), stl_kwargs={"robust": True})
            .fit()
            .seasonal.sum(axis=1)
            for i in range(2)
        ]
    ).T
    rest = X[:400] - training
    line = np.polyfit(np.arange(400), transformer.expected_[None] - training, 1)
    found = transformer.transform(X)[400:]
    for i, t in enumerate(range(400, 500)):
        season = sum(cycle[(t - 400) % len(cycle)] for cycle in cycles)
        trend = np.median(rest[-85:], axis=0) + 43 * line[0]
        assert_allclose(found[i], X[t] - season - trend, atol=1e-10)
        rest = np.concatenate([rest, (X[t] - season)[None]])


def test_new_noise_is_little_more_than_noise():
    X = sum_of_seasons(2000)
    residuals = SeasonalTrendResiduals([12, 84]).fit(X[:1000]).transform(X)[1000:]
    assert residuals.std(axis=0).max() < 0.15
    assert np.abs(residuals.mean(axis=0)).max() < 0.05  # and 0.43 where it is late


def test_no_new_step_depends_on_later_ones():
    X = sum_of_seasons(600)
    transformer = SeasonalTrendResiduals(12).fit(X[:300])
    changed = X.copy()
    changed[450:] += 100
    for rows in (slice(None), slice(300, None)):
        n_same = len(X[rows]) - 150
        before, after = (
            transformer.transform(X[rows]),
            transformer.transform(changed[rows]),
        )
        assert_array_equal(before[:n_same], after[:n_same])
        assert (before[n_same:] != after[n_same:])[:6].all()  # the trend follows


def test_new_steps_follow_the_training_alone_or_with_it():
    X = sum_of_seasons(500)
    transformer = SeasonalTrendResiduals(12).fit(X[:300])
    whole = transformer.transform(X)
    assert_array_equal(transformer.transform(X[300:]), whole[300:])
    assert_array_equal(transformer.transform(X[:200]), whole[:200])
    # what only begins alike is in the places of the training, whatever it is
    other = X[:300].copy()
    other[50:] += 1
    assert_allclose(transformer.transform(other)[50:], whole[50:300] + 1)


def test_series_in_groups_have_their_own_seasons():
    first, second = sum_of_seasons(200), -3 * sum_of_seasons(260, seed=1)[:, ::-1]
    X = np.concatenate([first[:150], second[:200], first[150:], second[200:]])
    groups = np.repeat(["a", "b", "a", "b"], [150, 200, 50, 60])
    transformer = SeasonalTrendResiduals(12).fit(X, groups=groups)
    found = transformer.transform(X, groups=groups)
    alone = SeasonalTrendResiduals(12)
    assert_allclose(found[groups == "a"], alone.fit_transform(first))
    assert_allclose(found[groups == "b"], alone.fit_transform(second))
    new = transformer.transform(first[:5] * 0, groups=["b"] * 5)
    assert_allclose(new, alone.transform(first[:5] * 0))
    with pytest.raises(ValueError, match=r"groups has 'c', and .* groups 'a', 'b'"):
        transformer.transform(X[:3], groups=["c"] * 3)
    with pytest.raises(ValueError, match="groups is missing"):
        transformer.transform(X[:3])


def test_missing_steps_stay_missing_and_bend_nothing():
    X = sum_of_seasons(400)
    gaps = X.copy()
    gaps[100:104], gaps[350, 1] = np.nan, np.nan
    transformer = SeasonalTrendResiduals(12)
    found, whole = (transformer.fit(x[:300]).transform(x) for x in (gaps, X))
    assert_array_equal(np.isnan(found), np.isnan(gaps))
    there = ~np.isnan(gaps)
    assert np.abs(found - whole)[there].max() < 0.5
    watch = make_pipeline(transformer, WindowDetector(window_size=5, missing="skip"))
    assert np.isfinite(watch.fit(gaps[:300]).score_samples(gaps)).all()


def test_in_a_pipeline_with_groups():
    X = np.concatenate([sum_of_seasons(240), 5 * sum_of_seasons(240, seed=1)])
    X[400, 0] += 20
    groups = np.repeat([0, 1], 240)
    watch = make_pipeline(SeasonalTrendResiduals(12), ZScore())
    with config_context(enable_metadata_routing=True):
        watch.fit(X, groups=groups)
        decision = watch.decision_function(X, groups=groups)
    assert decision.argmin() == 400


def test_the_period_is_found():
    X = (
        sum_of_seasons(300)[:, :1] * 0
        + np.sin(np.arange(300) / 20 * 2 * np.pi)[:, None]
    )
    assert SeasonalTrendResiduals().fit(X).periods_ == [20]
    noise = np.random.default_rng(0).normal(size=(300, 1))
    with pytest.raises(ValueError, match="no period that could be seen"):
        SeasonalTrendResiduals().fit(noise)


@pytest.mark.parametrize("periods", [[12, 12], [1, 5], [2.5], [], [[3, 4]]])
def test_what_are_no_periods(periods):
    with pytest.raises(ValueError, match="must be whole numbers of at least 2"):
        SeasonalTrendResiduals(periods).fit(sum_of_seasons(100))


def test_a_series_of_less_than_two_periods():
    with pytest.raises(ValueError, match=r"need 168 time steps .* has n_samples=100"):
        SeasonalTrendResiduals([12, 84]).fit(sum_of_seasons(100))


def test_float32_stays():
    X = sum_of_seasons(100).astype(np.float32)
    assert SeasonalTrendResiduals(12).fit_transform(X).dtype == np.float32


def test_check_estimator():
    reason = "the residual of a step depends on those before it"
    check_estimator(
        SeasonalTrendResiduals(2),
        expected_failed_checks={
            "check_methods_sample_order_invariance": reason,
            "check_methods_subset_invariance": reason,
        },
    )
