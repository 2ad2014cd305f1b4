"""Folds for novelty detection and label-free scorers."""

import pickle
import warnings

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import multivariate_normal, norm, spearmanr
from sklearn.base import BaseEstimator, clone
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import (
    GridSearchCV,
    cross_val_score,
    cross_validate,
)
from sklearn.neighbors import KernelDensity
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import skad
from skad.density import Mahalanobis
from skad.model_selection import (
    ExcessMass,
    MassVolume,
    NoveltyKFold,
    excess_mass,
    excess_mass_curve,
    mass_volume,
    mass_volume_curve,
    model_centrality,
)
from skad.model_selection._curves import excess_mass_area, mass_volume_area


def global_state():
    return repr(np.random.get_state())  # noqa: NPY002


# -------------------------------------------------------------------------------- folds

labels = st.lists(st.sampled_from([1, 1, 1, -1, 0]), min_size=6, max_size=40)


@settings(deadline=None)
@given(
    y=labels,
    n_splits=st.integers(2, 4),
    shuffle=st.booleans(),
    anomalies=st.sampled_from(["split", "repeat"]),
)
def test_folds_keep_their_promises(y, n_splits, shuffle, anomalies):
    y = np.array(y)
    folds = NoveltyKFold(
        n_splits,
        shuffle=shuffle,
        random_state=0 if shuffle else None,
        anomalies=anomalies,
    )
    n_anomalies = (y == -1).sum()
    least = n_splits if anomalies == "split" else 1
    if (y == 1).sum() < n_splits or n_anomalies < least:
        with pytest.raises(ValueError, match=r"n_splits|no anomalies"):
            next(folds.split(y, y))
        return
    splits = list(folds.split(y, y))
    assert len(splits) == n_splits == folds.get_n_splits(y, y)
    tested = np.zeros(len(y), dtype=int)
    for train, test in splits:
        assert not set(train) & set(test)
        assert (y[train] >= 0).all()
        assert set(np.flatnonzero(y == 0)) <= set(train)
        assert set(y[test]) == {1, -1}
        assert set(train) | set(test) >= set(np.flatnonzero(y >= 0))
        assert (np.diff(train) > 0).all()
        assert (np.diff(test) > 0).all()
        tested[test] += 1
    assert (tested[y == 1] == 1).all()
    assert (tested[y == 0] == 0).all()
    assert (tested[y == -1] == (1 if anomalies == "split" else n_splits)).all()
    for label in (1, -1) if anomalies == "split" else (1,):
        sizes = [(y[test] == label).sum() for _, test in splits]
        assert max(sizes) - min(sizes) <= 1


def test_folds_without_shuffling_are_runs_of_rows():
    y = [1, -1, 1, 1, 0, -1, 1]
    splits = [(a.tolist(), b.tolist()) for a, b in NoveltyKFold(2).split(y, y)]
    assert splits == [([3, 4, 6], [0, 1, 2]), ([0, 2, 4], [3, 5, 6])]


def test_shuffled_folds_follow_their_seed():
    y = np.repeat([1, -1], [40, 10])

    def first(**settings):
        return next(NoveltyKFold(**settings).split(y, y))[1].tolist()

    seeded = {"shuffle": True, "random_state": 3}
    assert first(**seeded) == first(**seeded)
    assert first(**seeded) != first()
    assert first(**seeded) != first(shuffle=True, random_state=4)
    before = global_state()
    first(**seeded)
    assert global_state() == before


@pytest.mark.parametrize("kind", ["list", "float", "series", "polars", "tensor"])
def test_folds_take_labels_of_any_kind(kind):
    plain = np.repeat([1, -1, 0], 5)
    if kind == "list":
        y = plain.tolist()
    elif kind == "float":
        y = plain.astype(float)
    elif kind == "series":
        y = pytest.importorskip("pandas").Series(plain, index=range(100, 115))
    elif kind == "polars":
        y = pytest.importorskip("polars").Series(plain)
    else:
        y = pytest.importorskip("torch").tensor(plain)
    expected = list(NoveltyKFold(3).split(plain, plain))
    for got, want in zip(NoveltyKFold(3).split(plain, y), expected, strict=True):
        np.testing.assert_array_equal(got[0], want[0])
        np.testing.assert_array_equal(got[1], want[1])


@pytest.mark.parametrize(
    ("settings", "y", "message"),
    [
        ({}, None, "y=None"),
        ({}, [1] * 10, "no anomalies"),
        ({}, [1] * 4 + [-1] * 9, "normal rows, and y has 4"),
        ({}, [1] * 9 + [-1] * 4, "anomalies, and y has 4"),
        ({}, [1, -1, 2] * 9, "got -1, 1, 2"),
        ({}, [1, -1, np.nan] * 9, "got -1.0, 1.0, nan"),
        ({}, ["normal", "bad"] * 9, "got bad, normal"),
        ({}, list(range(9)), r"got 0, 1, 2, 3, 4, \.\.\."),
        ({}, [[1, -1]] * 9, "1d array"),
        ({"n_splits": 3}, [1, -1] * 6, "inconsistent numbers of samples"),
    ],
)
def test_folds_refuse_bad_labels(settings, y, message):
    X = np.zeros((13 if "n_splits" in settings else len(y or [0]), 2))
    with pytest.raises(ValueError, match=message):
        next(NoveltyKFold(**settings).split(X, y))


@pytest.mark.parametrize(
    "settings",
    [
        {"n_splits": 1},
        {"n_splits": 2.5},
        {"shuffle": "yes"},
        {"random_state": 0},
        {"anomalies": "all"},
    ],
)
def test_folds_refuse_bad_settings(settings):
    name, value = next(iter(settings.items()))
    with pytest.raises(ValueError, match=f"{name}={value!r}"):
        NoveltyKFold(**settings)


def test_folds_are_a_scikit_learn_splitter():
    import sklearn

    folds = NoveltyKFold(3, shuffle=True, random_state=1)
    assert repr(folds) == (
        "NoveltyKFold(anomalies='split', n_splits=3, random_state=1, shuffle=True)"
    )
    assert repr(pickle.loads(pickle.dumps(folds))) == repr(folds)
    assert repr(clone(folds, safe=False)) == repr(folds)
    y = np.repeat([1, -1], [20, 5])
    X = np.random.default_rng(0).normal(size=(25, 2))
    with pytest.warns(UserWarning, match="groups parameter is ignored"):
        next(folds.split(X, y, groups=y))
    with sklearn.config_context(enable_metadata_routing=True):
        assert not hasattr(folds, "set_split_request")
        scores = cross_val_score(Mahalanobis(), X, y, cv=folds, scoring="roc_auc")
    assert len(scores) == 3


def test_folds_in_cross_validation_train_on_normal_rows_only():
    class Recorder(BaseEstimator):
        seen = []

        def fit(self, X, y=None):
            self.seen.append(np.asarray(y))
            return self

        def decision_function(self, X):
            return X[:, 0]

    Recorder._estimator_type = "outlier_detector"
    y = np.repeat([1, -1, 0], [20, 6, 4])
    X = y[:, None] + np.zeros((30, 2))
    scores = cross_validate(
        Recorder(), X, y, cv=NoveltyKFold(2), scoring=lambda e, X, y: (y == -1).sum()
    )
    assert scores["test_score"].tolist() == [3, 3]
    assert [sorted(set(y.tolist())) for y in Recorder.seen] == [[0, 1]] * 2


# ------------------------------------------------------------------------------- curves


def naive_excess_mass(scores, box_scores, price):
    best = 0.0
    for level in scores:
        mass = np.mean([score >= level for score in scores])
        inside = sum(score >= level for score in box_scores)
        best = max(best, mass - price * (inside + 1) / (len(box_scores) + 1))
    return best


def naive_mass_volume(scores, box_scores, alpha):
    volumes = []
    for level in scores:
        if np.mean([score >= level for score in scores]) >= alpha - 1e-12:
            inside = sum(score >= level for score in box_scores)
            volumes.append((inside + 1) / (len(box_scores) + 1))
    return min(volumes)


few_levels = st.lists(st.integers(0, 6), min_size=1, max_size=25)


@settings(deadline=None)
@given(scores=few_levels, box_scores=few_levels)
@example(scores=[0] * 6 + [1] * 3 + [2] * 2, box_scores=[0] * 4 + [1] * 2)
def test_curves_equal_their_definitions(scores, box_scores):
    price, excess = excess_mass_curve(scores, box_scores)
    assert price[0] == 0
    assert excess[0] == 1
    assert excess[-1] == pytest.approx(0)
    assert (np.diff(price) > 0).all()
    for t in np.linspace(0, 1.2 * price[-1], 17):
        assert np.interp(t, price, excess) == pytest.approx(
            naive_excess_mass(scores, box_scores, t), abs=1e-12
        )
    mass, volume = mass_volume_curve(scores, box_scores)
    assert mass[-1] == pytest.approx(1)
    for alpha in np.linspace(0.01, 1, 17):
        step = np.searchsorted(mass, alpha - 1e-12)
        assert volume[step] == naive_mass_volume(scores, box_scores, alpha)


@settings(deadline=None)
@given(scores=few_levels, box_scores=few_levels, min_mass=st.floats(0.05, 0.95))
def test_areas_equal_sums_on_a_fine_grid(scores, box_scores, min_mass):
    price, excess = excess_mass_curve(scores, box_scores)
    t = np.linspace(0, price[-1], 20_001)
    height = np.interp(t, price, excess)
    step = t[1] - t[0]
    assert excess_mass_area(scores, box_scores, min_mass) == pytest.approx(
        height[height > min_mass].sum() * step, abs=3 * step
    )
    alpha = min_mass + (1 - min_mass) * (np.arange(2000) + 0.5) / 2000
    mass, volume = mass_volume_curve(scores, box_scores)
    staircase = volume[np.minimum(np.searchsorted(mass, alpha), len(mass) - 1)]
    assert mass_volume_area(scores, box_scores, min_mass) == pytest.approx(
        staircase.mean() * (1 - min_mass), abs=2e-2 * (1 - min_mass)
    )


def test_uniform_data_have_the_areas_of_the_closed_form():
    box_scores = np.repeat([1.0, 0.0], 50_000)
    # the data fill half of the box: EM(t) = 1 - t / 2, MV(alpha) = 1 / 2
    ones = np.ones(1000)
    assert excess_mass_area(ones, box_scores, 0.9) == pytest.approx(0.19, rel=1e-4)
    assert mass_volume_area(ones, box_scores, 0.9) == pytest.approx(0.05, rel=1e-4)
    # and all of it: EM(t) = 1 - t, MV(alpha) = 1
    assert excess_mass_area(ones, box_scores * 0 + 1, 0.9) == pytest.approx(0.095)
    assert mass_volume_area(ones, box_scores * 0 + 1, 0.9) == pytest.approx(0.1)


def test_gaussian_data_have_the_curves_of_the_closed_form():
    n, half_width = 20_000, 4.0
    data = norm.ppf((np.arange(n) + 0.5) / n)
    box = np.linspace(-half_width, half_width, 400_001)
    curves = norm.logpdf(data), norm.logpdf(box)

    def true_excess_mass(t):
        radius = np.sqrt(-2 * np.log(np.sqrt(2 * np.pi) * t / (2 * half_width)))
        return 2 * norm.cdf(radius) - 1 - t * 2 * radius / (2 * half_width)

    price, excess = excess_mass_curve(*curves)
    for t in np.linspace(0.01, 3, 40):
        assert np.interp(t, price, excess) == pytest.approx(
            true_excess_mass(t), abs=1e-4
        )
    last = np.interp(-0.9, -excess, price)
    area = quad(true_excess_mass, 1e-12, last)[0]
    assert excess_mass_area(*curves, 0.9) == pytest.approx(area, rel=1e-3)

    def true_mass_volume(alpha):
        return norm.ppf((1 + alpha) / 2) / half_width

    mass, volume = mass_volume_curve(*curves)
    inside = (mass > 0.01) & (mass < 0.999)
    np.testing.assert_allclose(
        volume[inside], true_mass_volume(mass[inside]), atol=4e-3
    )
    area = quad(true_mass_volume, 0.9, 1 - 0.5 / n)[0]
    assert mass_volume_area(*curves, 0.9) == pytest.approx(area, rel=1e-2)


@settings(deadline=None)
@given(
    counts=st.lists(st.integers(1, 30), min_size=2, max_size=12),
    other=st.randoms(use_true_random=False),
    min_mass=st.sampled_from([0.5, 0.9]),
)
def test_no_score_beats_the_density(counts, other, min_mass):
    # cells of equal volume with known numbers of data: the density is the count
    cells = np.arange(len(counts))
    data = np.repeat(cells, counts)
    density = np.argsort(np.argsort(counts))  # its order, ties broken somehow
    score = np.array([other.randrange(8) for _ in counts])
    best = density[data], density[cells], min_mass
    rival = score[data], score[cells], min_mass
    assert excess_mass_area(*best) >= excess_mass_area(*rival) - 1e-12
    assert mass_volume_area(*best) <= mass_volume_area(*rival) + 1e-12


# ------------------------------------------------------------------------------ scorers


class Score(BaseEstimator):
    """Scores rows with a function; nothing to fit."""

    def __init__(self, function):
        self.function = function

    def fit(self, X, y=None):
        return self

    def score_samples(self, X):
        return self.function(X)


@pytest.fixture(scope="module")
def two_blobs():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 2))
    X[::2] += 6
    return rng.permutation(X)


def two_blobs_density(X):
    first = multivariate_normal(np.zeros(2)).pdf(X)
    return first + multivariate_normal(np.full(2, 6.0)).pdf(X)


@pytest.mark.parametrize("scorer", [excess_mass, mass_volume])
def test_true_density_scores_better_than_perturbed_ones(scorer, two_blobs):
    true = scorer(Score(two_blobs_density), two_blobs)

    def perturbed(X, strength):
        return two_blobs_density(X) * np.exp(strength * np.sin(9 * X[:, 0]))

    scores = [scorer(Score(lambda X, s=s: perturbed(X, s)), two_blobs) for s in (1, 2)]
    reverse = scorer(Score(lambda X: -two_blobs_density(X)), two_blobs)
    assert true > scores[0] > scores[1] > reverse
    # only the order of the scores counts
    log = scorer(Score(lambda X: np.log(two_blobs_density(X))), two_blobs)
    assert log == pytest.approx(true)


@pytest.mark.parametrize("scorer", [excess_mass, mass_volume])
def test_scorers_have_no_unit(scorer, two_blobs):
    scale, shift = np.array([1e-3, 1e5]), np.array([7.0, -1e5])
    score = scorer(Mahalanobis().fit(two_blobs), two_blobs)
    moved = two_blobs * scale + shift
    assert scorer(Mahalanobis().fit(moved), moved) == pytest.approx(score, rel=1e-6)


def test_scorers_measure_what_the_closed_form_says():
    X = np.random.default_rng(0).uniform(size=(2000, 3))
    constant = Score(lambda X: np.zeros(len(X)))
    assert excess_mass(constant, X) == pytest.approx(0.095, rel=1e-3)
    assert mass_volume(constant, X) == pytest.approx(-0.1, rel=1e-3)


@pytest.mark.parametrize("scorer", [excess_mass, mass_volume])
def test_search_without_labels_finds_the_bandwidth(scorer, two_blobs):
    bandwidths = [0.01, 0.05, 0.5, 5.0, 20.0]
    search = GridSearchCV(
        make_pipeline(StandardScaler(), KernelDensity(kernel="gaussian")),
        {"kerneldensity__bandwidth": [b / 3 for b in bandwidths]},
        scoring=scorer,
    ).fit(two_blobs)
    assert search.best_index_ == 2
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_search_without_labels_prefers_the_robust_covariance():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(500, 3)) @ rng.normal(size=(3, 3))
    X[::20] = rng.uniform(-25, 25, size=(25, 3))
    grid = {"covariance": ["empirical", "mcd"], "random_state": [0]}
    scoring = {"em": excess_mass, "mv": mass_volume}
    search = GridSearchCV(Mahalanobis(), grid, scoring=scoring, refit="em").fit(X)
    assert search.best_params_["covariance"] == "mcd"
    assert set(search.cv_results_) >= {"mean_test_em", "mean_test_mv"}


@pytest.mark.parametrize("scorer", [ExcessMass, MassVolume])
def test_features_in_subsets_make_high_dimension_measurable(scorer):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 40))
    X[:, :20] = X[:, 20:] + 0.3 * X[:, :20]
    detector = KernelDensity(bandwidth=1.0)
    with pytest.warns(UserWarning, match="40 features .*max_features=5"):
        scorer()(detector.fit(X), X)
    subsets = scorer(max_features=2, n_subsets=8)
    search = GridSearchCV(
        detector,
        {"bandwidth": [0.001, 0.5]},
        scoring=subsets,
        cv=[(np.arange(300), np.arange(300))],
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert search.fit(X).best_params_ == {"bandwidth": 0.5}
    # fewer features than asked for: all of them, by the fitted detector itself
    low = X[:, :2]
    assert subsets(detector.fit(low), low) == scorer()(detector, low)


def test_feature_subsets_refuse_what_they_cannot_refit():
    X = np.random.default_rng(0).normal(size=(50, 6))
    frozen = FrozenEstimator(Mahalanobis().fit(X))
    assert excess_mass(frozen, X) == excess_mass(frozen.estimator, X)
    with pytest.raises(ValueError, match="6 features"):
        ExcessMass(max_features=2)(frozen, X)
    with pytest.raises(ValueError, match="at least 4 rows"):
        ExcessMass(max_features=2)(frozen, X[:3])


@pytest.mark.parametrize("scorer", [excess_mass, mass_volume])
def test_scorers_are_deterministic_and_leave_global_state_alone(scorer, two_blobs):
    detector = Mahalanobis().fit(two_blobs)
    before = global_state()
    first = scorer(detector, two_blobs, np.ones(len(two_blobs)))
    assert isinstance(first, float)
    assert scorer(detector, two_blobs) == first
    assert global_state() == before
    assert pickle.loads(pickle.dumps(scorer))(detector, two_blobs) == first
    other = type(scorer)(random_state=1)(detector, two_blobs)
    assert other != first
    assert other == pytest.approx(first, rel=0.05)


def test_scorers_work_in_parallel(two_blobs):
    serial = cross_val_score(Mahalanobis(), two_blobs, scoring=mass_volume)
    parallel = cross_val_score(Mahalanobis(), two_blobs, scoring=mass_volume, n_jobs=2)
    np.testing.assert_array_equal(serial, parallel)


@pytest.mark.parametrize("library", ["pandas", "polars", "torch", "list", "float32"])
def test_scorers_take_what_the_detector_takes(library, two_blobs):
    if library == "pandas":
        X = pytest.importorskip("pandas").DataFrame(two_blobs, columns=["a", "b"])
    elif library == "polars":
        X = pytest.importorskip("polars").DataFrame(two_blobs, schema=["a", "b"])
    elif library == "torch":
        X = pytest.importorskip("torch").tensor(two_blobs)
    elif library == "list":
        X = two_blobs.tolist()
    else:
        X = two_blobs.astype(np.float32)
    expected = excess_mass(Mahalanobis().fit(two_blobs), two_blobs)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # the names of a frame's columns are kept
        score = excess_mass(Mahalanobis().fit(X), X)
    assert score == pytest.approx(expected, rel=1e-3)


def test_scorers_take_constant_and_huge_features(two_blobs):
    X = np.column_stack([two_blobs, np.full(len(two_blobs), 3.0)])
    assert np.isfinite(excess_mass(Mahalanobis().fit(X), X))
    huge = two_blobs * 1e120
    np.testing.assert_allclose(
        excess_mass(Mahalanobis().fit(huge), huge),
        excess_mass(Mahalanobis().fit(two_blobs), two_blobs),
    )


@pytest.mark.parametrize(
    "setting",
    [
        {"min_mass": 1.0},
        {"n_points": 0},
        {"n_subsets": 1.5},
        {"max_features": 0},
    ],
)
@pytest.mark.parametrize("scorer", [ExcessMass, MassVolume])
def test_scorers_refuse_bad_settings(scorer, setting):
    name, value = next(iter(setting.items()))
    with pytest.raises(ValueError, match=f"{name}={value!r}"):
        scorer(**setting)


def test_scorers_say_what_they_cannot_score(two_blobs):
    with pytest.raises(TypeError, match="neither score_samples nor"):
        excess_mass(StandardScaler(), two_blobs)
    with pytest.raises(ValueError, match="returned NaN"):
        excess_mass(Score(lambda X: np.full(len(X), np.nan)), two_blobs)
    with pytest.raises(ValueError, match="table of numbers"):
        excess_mass(Score(len), np.array([["a", "b"]]))
    assert repr(ExcessMass(n_points=5)).startswith(
        "ExcessMass(min_mass=0.9, n_points=5"
    )


def test_searches_take_tensors_and_route_metadata(two_blobs):
    import sklearn

    torch = pytest.importorskip("torch")
    y = np.repeat([1, -1], [370, 30])
    X = two_blobs * np.where(y == 1, 1, 3)[:, None]
    search = GridSearchCV(
        Mahalanobis(),
        {"tol": [1e-12, 1e-6]},
        scoring={"labels": "roc_auc", "none": excess_mass},
        refit="none",
        cv=NoveltyKFold(3),
    )
    tensors = clone(search).fit(torch.tensor(X), torch.tensor(y))
    with sklearn.config_context(enable_metadata_routing=True):
        routed = clone(search).fit(X, y)
    for other in (tensors, routed):
        for name in ("labels", "none"):
            np.testing.assert_allclose(
                other.cv_results_[f"mean_test_{name}"],
                clone(search).fit(X, y).cv_results_[f"mean_test_{name}"],
            )


# ------------------------------------------------------------------- which kind it is


def test_centrality_is_the_mean_of_rank_correlations():
    rng = np.random.default_rng(0)
    X = np.round(rng.normal(size=(80, 3)), 1)  # with ties
    kinds = skad.ECOD(), skad.KNN(), skad.HBOS(), skad.LOF()
    fitted = [kind.fit(X) for kind in kinds]
    scores = [kind.score_samples(X) for kind in fitted]
    pairs = np.array([[spearmanr(a, b).statistic for b in scores] for a in scores])
    expected = (pairs.sum(axis=1) - 1) / 3
    np.testing.assert_allclose(model_centrality(fitted, X), expected, rtol=1e-9)


def test_what_tells_no_samples_apart_agrees_with_nothing():
    X = np.random.default_rng(0).normal(size=(40, 2))
    with pytest.warns(UserWarning, match="got the score"):
        alike = skad.KNN().fit(np.zeros((30, 2)))
    kinds = [skad.ECOD().fit(X), skad.KNN().fit(X), alike]
    found = model_centrality(kinds, np.ones((9, 2)))
    np.testing.assert_array_equal(found, 0)
    with pytest.raises(ValueError, match="three are the fewest"):
        model_centrality(kinds[:2], X)


def test_the_central_kind_is_better_than_the_average_one(shared):
    gains = []
    for path in sorted((shared / "tabular").glob("*.npz")):
        data = np.load(path)
        X, anomalous = StandardScaler().fit_transform(data["X"]), data["y"].ravel() == 1
        rows = np.random.RandomState(0).permutation(len(X))[:400]
        X, anomalous = X[rows], anomalous[rows]
        kinds = skad.ECOD(), skad.HBOS(), skad.KDE(), skad.KNN(), skad.LOF(), skad.SOS()
        kinds = [kind.fit(X) for kind in (*kinds, skad.Mahalanobis(), skad.LODA())]
        areas = [roc_auc_score(anomalous, -kind.score_samples(X)) for kind in kinds]
        chosen = areas[int(model_centrality(kinds, X).argmax())]
        gains.append(chosen - np.mean(areas))
    assert np.mean(gains) > 0.02
    assert np.mean(np.array(gains) > -0.02) >= 0.8
