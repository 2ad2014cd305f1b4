"""LSTMForecaster and DeepAnT, and what networks over windows share."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import multivariate_normal
from sklearn.covariance import oas
from sklearn.metrics import average_precision_score
from skorch.callbacks import Callback

from skad._moments import moments
from skad._samples import Windows
from skad.metrics import hit_rate_at
from skad.series import DeepAnT, LSTMForecaster
from skad.series._deepant import ConvolutionalForecaster, shares_of_distance
from skad.series._forecasting import forecast_errors, forecast_pieces
from skad.series._lstm_forecaster import (
    RecurrentForecaster,
    error_gaussian,
)
from skad.series._network import window_starts
from tests._series_data import SMD, load_machine

SMALL = {
    LSTMForecaster: {
        "window_size": 12,
        "horizon": 3,
        "hidden_sizes": (6, 4),
        "stride": 3,
        "max_epochs": 2,
        "random_state": 0,
    },
    DeepAnT: {
        "window_size": 7,
        "hidden_sizes": (4, 5),
        "max_epochs": 2,
        "random_state": 0,
    },
}


def waves(n, seed=0):
    """Return three noisy sines of shape (n, 3)."""
    noise = np.random.default_rng(seed).normal(size=(n, 3))
    return np.sin(np.arange(n)[:, None] / [3, 4, 5]) + 0.05 * noise


@pytest.fixture(scope="module")
def fitted():
    """Each forecaster with small settings, fitted on all of 200 steps."""
    return {
        cls: cls(**given, contamination=0.1).fit(waves(200))
        for cls, given in SMALL.items()
    }


both = pytest.mark.parametrize("cls", list(SMALL), ids=lambda cls: cls.__name__)


# -------------------------------------------------------------- the windows of training


@given(
    lengths=st.lists(st.integers(5, 12), min_size=1, max_size=4),
    size=st.integers(1, 5),
    stride=st.integers(1, 5),
)
@settings(max_examples=40, deadline=None)
def test_windows_of_training_stay_within_their_series(lengths, size, stride):
    series = [
        100 * i + torch.arange(length)[:, None] for i, length in enumerate(lengths)
    ]
    starts = torch.from_numpy(window_starts(lengths, size, stride))
    windows = Windows(torch.cat(series), starts, size)
    expected = [
        x[start : start + size]
        for x in series
        for start in range(0, len(x) - size + 1, stride)
    ]
    assert windows.shape == (len(expected), size, 1)
    assert_array_equal(windows[:], torch.stack(expected))
    some = torch.tensor([len(expected) - 1, 0])
    assert_array_equal(windows.subset(some)[:], torch.stack(expected)[some])
    assert_array_equal(windows[0], expected[0])
    assert windows.float()[:].dtype == torch.float32


def test_training_windows_are_not_copied_before_they_are_needed():
    x = torch.zeros(10_000, 5)
    windows = Windows(x, torch.arange(9_901), 100)
    assert windows.nbytes < 2 * x.nbytes
    assert windows.views.data_ptr() == x.data_ptr()


@both
def test_no_training_window_crosses_from_one_series_to_another(cls, fitted):
    """A jump between two series is in no window, so nothing is learned of it."""
    seen = []

    class Watch(Callback):
        def on_batch_begin(self, net, batch=None, training=None, **parameters):
            seen.append(batch[0].clone())

    X = waves(120)
    X[60:] += 100
    detector = cls(**SMALL[cls], callbacks=[Watch()], contamination=0.1)
    detector.fit(X, groups=np.repeat([0, 1], 60))
    windows = torch.cat(seen)
    assert (windows.amax((1, 2)) - windows.amin((1, 2)) < 10).all()
    size, stride = detector.window_size_, detector.stride
    assert len(windows) == 2 * 2 * ((60 - size) // stride + 1)


def test_a_network_goes_on_only_with_windows_of_its_size():
    detector = DeepAnT(**SMALL[DeepAnT], warm_start=True).fit(waves(60))
    before = detector.net_
    assert len(detector.fit(waves(80)).history_) == 4
    detector.set_params(window_size=9)
    with pytest.raises(ValueError, match="window_size=9 differs from the 7 steps"):
        detector.fit(waves(60))
    assert detector.net_ is not before
    assert detector.window_size_ == 7


@both
def test_scikit_learn_callbacks_score_every_epoch(cls):
    callback = pytest.importorskip("sklearn.callback")
    monitor = callback.ScoringMonitor(scoring="roc_auc")
    X, y = waves(90), np.where(np.arange(90) < 80, 1, -1)
    detector = cls(**SMALL[cls]).set_callbacks(monitor).fit(X, y)
    rows = [
        row["roc_auc"]
        for row in monitor.get_logs().data
        if row["task_name"] == "fit epochs step"
    ]
    assert len(rows) == 2
    plain = cls(**SMALL[cls]).fit(X)
    assert_array_equal(detector.score_samples(X), plain.score_samples(X))
    assert detector.offset_ == plain.offset_


@both
def test_callbacks_see_the_threshold_of_several_series(cls, monkeypatch):
    """What a fit would end with after its last epoch is what it ends with."""
    callback = pytest.importorskip("sklearn.callback")
    seen, reconstruct = [], cls._reconstruct

    def watched(self, network, training):
        seen.append(reconstruct(self, network, training))
        return seen[-1]

    monkeypatch.setattr(cls, "_reconstruct", watched)
    X, groups = waves(90), np.repeat([1, 0, 1], 30)
    y = np.where(np.arange(90) < 80, 1, -1)
    monitor = callback.ScoringMonitor(scoring="roc_auc")
    detector = cls(**SMALL[cls]).set_callbacks(monitor).fit(X, y, groups=groups)
    assert seen[-1]["offset_"] == pytest.approx(detector.offset_, rel=1e-12)


# ----------------------------------------------------------------- scores in time's way


@given(n=st.integers(1, 30), size=st.integers(1, 9), data=st.data())
@settings(max_examples=80, deadline=None)
def test_pieces_score_every_step_once(n, size, data):
    scored = data.draw(st.integers(1, size))
    begin = data.draw(st.integers(0, n - 1))
    x = np.arange(n, dtype=float)[:, None]
    pieces = forecast_pieces(x, size, scored, begin)
    steps = np.concatenate([piece[:, size - scored :].ravel() for piece in pieces])
    first = begin // scored * scored
    stop = -(-n // scored) * scored
    assert_array_equal(steps, np.minimum(np.arange(first, stop), n - 1))
    contexts = np.concatenate([piece[:, : size - scored, 0] for piece in pieces])
    for i, context in enumerate(contexts):
        at = first + i * scored
        assert_array_equal(context, np.arange(at - size + scored, at).clip(0))


@pytest.mark.parametrize("method", ["score_samples", "transform"])
@both
def test_later_steps_never_change_a_score(cls, method, fitted):
    X = waves(50, seed=1)
    score = getattr(fitted[cls], method)
    whole = score(X)
    for cut in range(12, 50):
        assert_allclose(score(X[:cut]), whole[:cut], rtol=1e-8, atol=1e-10)
    changed = X.copy()
    changed[30:] += 5
    assert_allclose(score(changed)[:30], whole[:30], rtol=1e-8, atol=1e-10)
    assert (np.abs(score(changed)[30] - whole[30]) > 0.1).any()


@both
@given(cuts=st.lists(st.integers(1, 59), max_size=6, unique=True))
@settings(max_examples=10, deadline=None)
def test_a_stream_is_the_whole_in_pieces(cls, fitted, cuts):
    rows, detector = waves(60, seed=2), cls(**SMALL[cls])
    vars(detector).update(vars(fitted[cls]))
    both_parts = np.concatenate([waves(200), rows])
    pieces = [detector.score_stream(piece) for piece in np.split(rows, sorted(cuts))]
    expected = detector.score_samples(both_parts)[200:]
    assert_allclose(np.concatenate(pieces), expected, rtol=1e-8)
    assert len(detector._stream_[1]) < 2 * detector.window_size_
    detector.reset_stream()
    assert_allclose(detector.score_stream(rows), detector.score_samples(rows))


@both
def test_series_are_scored_apart(cls, fitted):
    X, groups = waves(60), np.tile([0, 1], 30)
    scores = fitted[cls].score_samples(X, groups=groups)
    for group in (0, 1):
        alone = fitted[cls].score_samples(X[groups == group])
        assert_allclose(scores[groups == group], alone)


@both
def test_single_precision_and_tensors(cls, fitted):
    X, detector = waves(50, seed=3), fitted[cls]
    expected = detector.score_samples(X)
    scale = np.abs(expected).max()
    single = detector.score_samples(X.astype(np.float32))
    assert_allclose(single, expected, atol=1e-3 * scale)
    assert detector.transform(X.astype(np.float32)).dtype == np.float32
    tensors = detector.score_samples(torch.from_numpy(X))
    assert isinstance(tensors, torch.Tensor)
    assert_allclose(tensors, expected, atol=1e-9 * scale)


# --------------------------------------------------------------- the Gaussian on errors


def test_errors_are_those_of_all_forecasts_of_a_step():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 9, 3, generator=generator)
    forecasts = torch.randn(2, 9, 4, 3, generator=generator)
    errors = forecast_errors(x, forecasts, 5)
    assert errors.shape == (2, 5, 4, 3)
    for i in range(5):
        for ahead in range(1, 5):
            t = 4 + i
            expected = x[:, t] - forecasts[:, t - ahead, ahead - 1]
            assert_array_equal(errors[:, i, ahead - 1], expected)


def test_the_gaussian_is_the_closed_form():
    """Means and variances of maximum likelihood, correlations shrunk as in OAS."""
    rng = np.random.default_rng(0)
    errors = rng.normal(size=(300, 6)) @ rng.normal(size=(6, 6)) + rng.normal(size=6)
    n, mean, scatter = moments(torch.from_numpy(errors))
    scale, whitening = error_gaussian(n, mean, scatter)
    assert_allclose(mean, errors.mean(axis=0))
    assert_allclose(scale, errors.std(axis=0))
    standard = (errors - errors.mean(axis=0)) / errors.std(axis=0)
    correlation, _ = oas(standard, assume_centered=True)
    inverse = np.linalg.inv(correlation * np.outer(scale, scale))
    assert_allclose(whitening.T @ whitening, inverse, rtol=1e-8)
    # twice minus the log-likelihood, up to constants
    density = multivariate_normal(mean, np.linalg.inv(inverse))
    distance = ((errors - mean.numpy()) @ whitening.T.numpy()) ** 2
    gap = distance.sum(axis=1) + 2 * density.logpdf(errors)
    assert_allclose(gap, gap[0])


def test_many_errors_make_the_sample_covariance():
    rng = np.random.default_rng(1)
    errors = rng.normal(size=(200_000, 3)) @ rng.normal(size=(3, 3))
    _, whitening = error_gaussian(*moments(torch.from_numpy(errors)))
    inverse = np.linalg.inv(np.cov(errors.T, bias=True))
    assert_allclose(whitening.T @ whitening, inverse, rtol=1e-3)


def test_errors_that_never_vary_and_those_fewer_than_dimensions_are_usable():
    errors = torch.randn(5, 20, generator=torch.Generator().manual_seed(0)).double()
    errors[:, 3] = 0.25
    scale, whitening = error_gaussian(*moments(errors))
    assert scale[3] == 1
    assert torch.linalg.matrix_rank(whitening) == 20


def test_scores_are_distances_of_the_networks_errors(fitted):
    """By a loop over steps, from states that start where the windows do."""
    detector = fitted[LSTMForecaster]
    network, size, k = detector.net_, 12, 3
    X = torch.from_numpy(waves(200)).float()
    learned = []
    with torch.no_grad():
        for start in range(0, 200 - size + 1, size // 2):
            window = X[start : start + size]
            forecasts = network(window[None])[0]
            for t in range(size // 2, size):
                made = [forecasts[t - j, j - 1] for j in range(1, k + 1)]
                learned.append(torch.cat([window[t] - each for each in made]))
    learned = torch.stack(learned).double().numpy()
    mean, deviation = learned.mean(axis=0), learned.std(axis=0)
    assert_allclose(network.mean, mean, rtol=1e-4, atol=1e-6)
    assert_allclose(network.scale, deviation, rtol=1e-4)
    correlation, _ = oas((learned - mean) / deviation, assume_centered=True)
    covariance = correlation * np.outer(deviation, deviation)
    centred = learned - mean
    distance = (centred @ np.linalg.inv(covariance) * centred).sum(axis=1)
    # the first half window is scored from a constant past
    found = -detector.score_samples(waves(200))[6 : 6 + len(distance)]
    assert_allclose(found, distance, rtol=1e-3)
    maps = ((centred / deviation) ** 2).reshape(-1, k, 3).sum(axis=1)
    assert_allclose(detector.transform(waves(200))[6 : 6 + len(maps)], maps, rtol=1e-3)


def test_the_loss_is_the_mean_square_of_all_forecasts_within_a_window():
    with torch.random.fork_rng():
        network = RecurrentForecaster((6, 2), (3,), 2, 3)
        x = torch.randn(4, 6, 2)
    forecasts = network(x)
    squares = [
        (x[:, t + ahead] - forecasts[:, t, ahead - 1]).square()
        for ahead in (1, 2)
        for t in range(6 - ahead)
    ]
    expected = torch.stack(squares).mean()
    assert_allclose(network.loss(x, None).item(), expected.item(), rtol=1e-5)


# ------------------------------------------------------------------------------ DeepAnT


def test_shares_of_the_distance_sum_to_it():
    difference = torch.tensor([[3.0, -4.0], [0.0, 0.0]])
    assert_allclose(shares_of_distance(difference), [[1.8, 3.2], [0.0, 0.0]], rtol=1e-6)


def test_deepant_is_the_distance_to_the_forecast(fitted):
    detector, X = fitted[DeepAnT], waves(40, seed=4)
    network = detector.net_
    with torch.no_grad():
        for t in (6, 20, 39):
            history = torch.from_numpy(X[t - 6 : t]).float()
            forecast = network.layers(history.T[None])[0].numpy()
            distance = np.linalg.norm(X[t] - forecast)
            assert_allclose(-detector.score_samples(X)[t], distance, rtol=1e-4)
    maps = detector.transform(X)
    assert_allclose(maps.sum(axis=1), -detector.score_samples(X))


@pytest.mark.parametrize("n_steps", [2, 3, 4, 9, 46])
def test_pooling_leaves_something_of_any_history(n_steps):
    with torch.random.fork_rng():
        network = ConvolutionalForecaster((n_steps, 2), (4, 4, 4), 3, 0.0)
        assert network.map(torch.randn(5, n_steps, 2)).shape == (5, 1, 2)


@pytest.mark.parametrize(
    ("detector", "message"),
    [
        (DeepAnT(window_size=1), "window_size=1 must be at least 2"),
        (LSTMForecaster(window_size=12, horizon=7), "horizon=7 must be at most half"),
        (LSTMForecaster(window_size=5, horizon=1), "stride=10 must be at most"),
        (LSTMForecaster(window_size=70), "60 time steps, fewer than window_size=70"),
    ],
)
def test_parameters_that_do_not_fit(detector, message):
    with pytest.raises(ValueError, match=message):
        detector.fit(waves(60))


# ------------------------------------------------------------------- planted and real


def planted():
    """Return a clean train, a test with a phase break in one channel, its labels."""
    t = np.arange(1000)
    rng = np.random.default_rng(0)
    X = np.sin(t[:, None] / [4.0, 5.5, 7.0]) + 0.05 * rng.normal(size=(1000, 3))
    X[800:, 1] = np.sin((t[800:] + 9) / 5.5) + 0.05 * rng.normal(size=200)
    y = np.zeros(400, dtype=int)
    y[200:206] = 1
    return X[:600], X[600:], y


@pytest.mark.parametrize(
    "detector",
    [
        LSTMForecaster(
            window_size=40,
            horizon=3,
            stride=4,
            lr=0.01,
            max_epochs=15,
            random_state=0,
        ),
        DeepAnT(window_size=30, lr=0.005, max_epochs=20, random_state=0),
    ],
    ids=lambda detector: type(detector).__name__,
)
def test_a_phase_break_stands_out_from_steps_as_large(detector):
    train, test, y = planted()
    scores = -detector.fit(train).score_samples(test)
    trivial = np.abs(np.diff(test, axis=0, prepend=test[:1])).sum(axis=1)
    # the first steps have no history
    ours = average_precision_score(y[40:], scores[40:])
    theirs = average_precision_score(y[40:], trivial[40:])
    assert ours > theirs + 0.3
    assert 200 <= scores[40:].argmax() + 40 < 206
    maps = detector.transform(test)
    assert maps[200:203].max(axis=0).argmax() == 1


@both
def test_constant_series(cls):
    X = np.ones((60, 2))
    detector = cls(**SMALL[cls]).fit(X)
    scores = detector.score_samples(X)
    assert np.isfinite(scores).all()
    X[50, 0] = 4
    changed = detector.score_samples(X)
    assert changed[50] < scores.min() - 1


def test_the_map_names_channels_of_servers_better_than_their_z_scores(shared):
    rates = []
    for name in SMD:
        train, test, _, causes = load_machine(shared, name)
        scale = train.std(axis=0)
        z = np.abs(test - train.mean(axis=0)) / np.where(scale > 0, scale, 1)
        detector = LSTMForecaster(
            horizon=3,
            stride=50,
            max_epochs=5,
            batch_size=16,
            lr=0.005,
            random_state=0,
        )
        maps = detector.fit(train[-8000:]).transform(test)
        rates.append([hit_rate_at(causes, maps), hit_rate_at(causes, z)])
    ours, theirs = np.mean(rates, axis=0)
    assert ours >= theirs
