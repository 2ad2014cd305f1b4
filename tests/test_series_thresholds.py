"""Series: few of the new normal steps are flagged, by thresholds of honest scores."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import skad
from skad._limits import effective_size, upper_limit
from skad._stretches import held_stretches, remaining, time_folds
from skad.neighbors import KNN
from skad.series import (
    USAD,
    KMeansAD,
    MatrixProfile,
    SubsequenceKNN,
    SubsequenceLOF,
    ZScore,
)

SETTINGS = {
    "WindowDetector": {},
    "Discord": {},
    "SubsequenceKNN": {},
    "SubsequenceLOF": {},
    "KMeansAD": {"random_state": 0},
    "MatrixProfile": {},
    "LeftMatrixProfile": {},
    "PASAD": {"measure": "residual"},
    "RegressionForecaster": {},
    "SpectralResidual": {"window_size": None},
    "ZScore": {},
    "DeepAnT": {"max_epochs": 3, "random_state": 0},
    "LSTMForecaster": {
        "hidden_sizes": (8,),
        "horizon": 3,
        "max_epochs": 2,
        "random_state": 0,
    },
    "USAD": {"max_epochs": 5, "random_state": 0},
    "LSTMAutoEncoder": {"hidden_size": 8, "max_epochs": 2, "random_state": 0},
    "OmniAnomaly": {
        "hidden_size": 8,
        "n_flows": 2,
        "max_epochs": 1,
        "random_state": 0,
    },
}


def noisy(n, seed):
    """Return a series (n, 2) of period 25 with noise."""
    t, rng = np.arange(n), np.random.default_rng(seed)
    signal = np.stack([np.sin(2 * np.pi * t / 25), np.cos(4 * np.pi * t / 25)], axis=1)
    return signal + 0.3 * rng.normal(size=(n, 2))


def test_every_detector_of_series_is_here():
    named = {
        name for name, cls in skad.all_detectors() if "skad.series" in cls.__module__
    }
    assert named == {*SETTINGS, "MIDAS", "MIDASR"}  # these are of edges


@pytest.mark.parametrize("name", SETTINGS)
def test_new_steps_of_a_periodic_series(name):
    rates = []
    for seed in range(4):
        detector = getattr(skad, name)()
        if name != "ZScore":  # it has no window
            detector.set_params(window_size=25)
        detector.set_params(**SETTINGS[name])
        detector.fit(noisy(1200, seed))
        rates.append(np.mean(detector.predict(noisy(2000, 50 + seed)) == -1))
    assert np.mean(rates) <= 0.15


@pytest.mark.parametrize("name", ["WindowDetector", "KMeansAD", "MatrixProfile"])
@pytest.mark.parametrize("file", ["135_UCR", "136_UCR"])
def test_normal_parts_of_recorded_series(name, file, shared):
    (path,) = (shared / "series" / "ucr").glob(f"{file}*.txt")
    n, start = map(int, path.stem.split("_")[-3:-1])
    x = np.loadtxt(path)[:, None]
    detector = getattr(skad, name)(**SETTINGS[name]).fit(x[:n])
    found = detector.predict(x[n : start - 100])
    assert np.mean(found == -1) <= 0.15


def share_of_new(detector):
    """Return the share of new steps of smooth series that a detector flags."""
    rates = [
        np.mean(detector.fit(wander(2000, seed)).predict(wander(2000, 9 + seed)) == -1)
        for seed in range(3)
    ]
    return np.mean(rates)


def test_new_steps_of_a_smooth_series():
    assert share_of_new(SubsequenceKNN(window_size=25, n_neighbors=1)) < 0.15


def test_training_scores_alone_would_flag_far_more():
    """Centres lie nearer to the windows that they are means of than to new ones."""
    detector = KMeansAD(window_size=25, n_clusters=100, random_state=0)
    honest = share_of_new(detector)
    assert honest < 0.15
    assert share_of_new(detector.set_params(contamination=0.05)) > 5 * honest


def wander(n, seed):
    """Return a series (n, 1) that goes its way smoothly, and comes back."""
    noise = np.random.default_rng(seed).normal(size=n)
    for _ in range(2):
        for t in range(1, n):
            noise[t] += 0.8 * noise[t - 1]
    return noise[:, None]


def autoregressive(n, share, seed):
    """Return noise (n,) of which each value is the last one's `share` and news."""
    noise = np.random.default_rng(seed).normal(size=n)
    for t in range(1, n):
        noise[t] += share * noise[t - 1]
    return noise


@pytest.mark.parametrize("share", [0.0, 0.6, 0.9])
def test_steps_that_go_together_count_less(share):
    n = 20_000
    found = effective_size(autoregressive(n, share, 0))
    assert found == pytest.approx(n * (1 - share) / (1 + share), rel=0.25)


def test_sizes_of_few_and_of_equal_values():
    assert [effective_size(np.ones(n)) for n in (0, 1, 4, 50)] == [0, 1, 4, 50]
    assert effective_size(np.arange(3.0)) == 3
    assert effective_size(np.arange(100.0)) == 5
    assert effective_size(np.tile([0.0, 1.0], 50)) == 100


@pytest.mark.parametrize("m", [2, 10, 18, 19, 40, 1000])
def test_independent_values_have_the_same_limit(m):
    anomaly = np.random.default_rng(m).normal(size=m)
    for values in (anomaly, np.exp(anomaly)):
        limit = upper_limit(values, 0.05, n_effective=m)
        assert limit == pytest.approx(upper_limit(values, 0.05), rel=1e-12)


def test_new_values_of_noise_that_wanders():
    """Of a limit from values that go together far more would pass."""
    shares = {"all": [], "effective": []}
    for seed in range(300):
        noise = autoregressive(1200, 0.95, seed)
        seen, new = noise[:200], noise[600:]
        limits = {
            "all": upper_limit(seen, 0.05),
            "effective": upper_limit(seen, 0.05, n_effective=effective_size(seen)),
        }
        for name, limit in limits.items():
            shares[name].append(np.mean(new > limit))
    assert np.mean(shares["effective"]) < 0.07
    assert np.mean(shares["all"]) > 0.09


def test_thresholds_of_series_count_effective_steps():
    X = wander(600, 0)
    detector = SubsequenceKNN(window_size=25).fit(X)
    honest = detector._honest_anomaly(X, None, None)
    n_effective = effective_size(honest)
    assert n_effective < len(honest) / 3
    assert -detector.offset_ == upper_limit(honest, 0.05, n_effective=n_effective)
    assert -detector.offset_ > upper_limit(honest, 0.05)


@pytest.mark.parametrize("lengths", [[60], [300, 100], [5000], [11_000], [50] * 30])
def test_folds_are_stretches_with_something_left(lengths):
    folds = time_folds(lengths, 6)
    assert folds
    seen = [np.zeros(n, dtype=int) for n in lengths]
    for fold in folds:
        for i, a, b in fold:
            seen[i][a:b] += 1
        kept = remaining(lengths, fold, 6)
        assert kept
        for i, a, b in kept:
            assert b - a >= 6
            assert not any(j == i and a < d and c < b for j, c, d in fold)
    assert max(one.max() for one in seen) == 1
    held = sum(int(one.sum()) for one in seen)
    # of 200 times 50 steps the folds are all
    assert held == (sum(lengths) if sum(lengths) <= 10_000 else sum(lengths) // 5)


def test_few_windows_are_all_left_out_for_the_threshold():
    """A fifth of a series that wanders would tell of twelve windows of fifty steps."""
    flagged = []
    for seed in range(5):
        rng, steps = np.random.default_rng(seed), np.zeros((2, 3000))
        for i in range(1, 3000):
            steps[:, i] = 0.8 * steps[:, i - 1] + rng.normal(size=2)
        X, new = steps[:, :, None]
        detector = SubsequenceLOF(window_size=50).fit(X)
        flagged.append(np.mean(detector.predict(new) == -1))
    assert np.mean(flagged) < 0.08
    assert max(flagged) < 0.15


def test_few_steps_are_all_left_out_for_the_threshold():
    """However short the window: steps in a row are alike, and a fifth tells little."""
    missed = []
    for seed in range(20):
        steps = autoregressive(12_000, 0.98, seed)[:, None]
        detector = ZScore().fit(steps[:3000])
        missed.append(np.mean(detector.predict(steps[3000:]) == -1) - 0.05)
    assert np.sqrt(np.mean(np.square(missed))) < 0.03
    assert max(missed) < 0.1


def test_of_few_held_out_steps_the_others_tell_too():
    """A tenth of a series that wanders is two windows, which may be still ones."""
    missed = []
    for seed in range(6):
        steps = autoregressive(3400, 0.98, seed)[:, None]
        detector = USAD(window_size=20, max_epochs=10, random_state=0).fit(steps[:400])
        missed.append(np.mean(detector.predict(steps[400:]) == -1) - 0.05)
    assert np.sqrt(np.mean(np.square(missed))) < 0.25


def test_nothing_of_a_held_out_stretch_is_trained_on(monkeypatch):
    """Steps of it are in no window that the copies get."""
    banks = []
    fit = KNN.fit

    def watched(self, X, y=None):
        banks.append(np.unique(X))
        return fit(self, X, y)

    monkeypatch.setattr(KNN, "fit", watched)
    X = np.arange(10_500.0)[:, None]
    detector = SubsequenceKNN(window_size=20).fit(X)
    ((_, a, b), *more) = time_folds([10_500], 20)[0]
    assert not more or b <= more[0][1]
    whole, part = banks
    assert_array_equal(whole, X.ravel())
    assert not set(part) & set(range(a, b))
    assert detector.window_size_ == 20


def test_no_step_of_a_held_out_stretch_trains_a_network():
    torch = pytest.importorskip("torch")
    from skorch.callbacks import Callback

    seen = []

    class Watch(Callback):
        def on_batch_begin(self, net, batch=None, training=None, **parameters):
            seen.append(batch[0].clone())

    X = np.linspace(0, 1, 400, dtype=np.float32)[:, None]
    detector = skad.USAD(window_size=8, max_epochs=1, callbacks=[Watch()]).fit(X)
    trained = np.unique(torch.cat(seen).numpy())
    stretches = held_stretches([400], 8, detector.validation_fraction)
    held = np.concatenate([X[a:b, 0] for _, a, b in stretches])
    assert len(held) == 80
    assert not np.isin(held, trained).any()
    assert detector.n_held_out_ == 400 - 7 - sum(map(len, seen))


def test_matrix_profile_leaves_out_what_overlaps():
    X, size = noisy(90, 0)[:, :1], 10
    detector = MatrixProfile(window_size=size, false_alarm_rate=0.5, align="end")
    detector.fit(X)
    windows = np.lib.stride_tricks.sliding_window_view(X[:, 0], size)
    unit = windows - windows.mean(axis=1, keepdims=True)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    distance = np.sqrt(2 * size * np.clip(1 - unit @ unit.T, 0, None))
    gap = np.abs(np.subtract.outer(np.arange(len(unit)), np.arange(len(unit))))
    apart = np.where(gap < size, np.inf, distance).min(axis=1)
    near = np.where(gap <= 3, np.inf, distance).min(axis=1)
    assert (near < apart).any()
    found = detector._honest_anomaly(X, None, None)
    found = np.sort(found)[np.searchsorted(np.sort(found), apart - 1e-6)]
    np.testing.assert_allclose(found, apart, atol=2e-6)
