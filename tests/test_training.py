"""The one training loop: what it must do for every network that goes through it."""

import os
import pickle
import signal
import subprocess
import sys
import textwrap
import time
from itertools import chain

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from skorch.callbacks import Callback, EarlyStopping
from torch import nn

from skad._training._batches import Batches
from skad.image import FastFlow
from skad.nn.architecture import MLP, Conv, build
from skad.one_class import OCNN, DeepSAD, DeepSVDD
from skad.reconstruction import AutoEncoder

SMALL = {"hidden_sizes": (8,), "latent_size": 2, "max_epochs": 3, "random_state": 0}


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    return rng.normal(size=(100, 5)) @ rng.normal(size=(5, 5))


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).uniform(size=(40, 11, 9, 3)).astype(np.float32)


def weights(detector):
    return {k: v.numpy() for k, v in detector.net_.state_dict().items()}


def assert_same_weights(first, second):
    for (name, one), two in zip(
        weights(first).items(), weights(second).values(), strict=True
    ):
        assert_array_equal(one, two, err_msg=name)


def networks():
    """Return every detector that trains a network, made cheap."""
    from skad._training import TorchDetector
    from tests._instances import default_instances

    return [one for one in default_instances() if isinstance(one, TorchDetector)]


@pytest.fixture(params=networks(), ids=lambda one: type(one).__name__)
def detector(request):
    return clone(request.param)


@pytest.fixture(
    params=[one for one in networks() if "architecture" in one.get_params()],
    ids=lambda one: type(one).__name__,
)
def shaped(request):
    """Return a detector whose networks are made to the shape of the samples."""
    return clone(request.param)


@pytest.mark.by_turns
def test_training_moves_the_weights_and_the_loss(detector, rows):
    detector.set_params(random_state=0)
    first = weights(detector.set_params(max_epochs=1).fit(rows))
    longer = detector.set_params(max_epochs=6).fit(rows)
    moved = [
        name
        for name, value in weights(longer).items()
        if name.endswith("weight") and not np.array_equal(value, first[name])
    ]
    last = longer.history_[-1]["phase"]
    groups = [list(group) for group in longer.net_.groups(last).values()]
    own = {
        id(weight)
        for part in chain.from_iterable(groups)
        for weight in (part["params"] if isinstance(part, dict) else [part])
    }
    trained = [  # in the phase that `max_epochs` counts
        name
        for name, weight in longer.net_.named_parameters()
        if name.endswith("weight") and id(weight) in own
    ]
    assert trained
    assert len(moved) >= 0.5 * len(trained)
    assert all(np.isfinite(value).all() for value in weights(longer).values())
    losses = [row["train_loss"] for row in longer.history_ if row["phase"] == last]
    assert len(set(losses)) > 1
    opposed = len(longer.net_.groups(last)) > 1 or hasattr(longer.net_, "targets")
    if not opposed:  # and nothing that moves along: the loss is to fall
        assert losses[-1] < losses[0]


@pytest.mark.parametrize(
    "detector",
    [one for one in networks() if one._uses_labels],
    ids=lambda one: type(one).__name__,
)
def test_known_anomalies_alone_are_refused(detector, rows):
    with pytest.raises(ValueError, match=r"y is -1 for all|one class beside"):
        clone(detector).fit(rows, -np.ones(len(rows)))


@pytest.mark.by_turns
def test_weights_depend_on_the_seed_alone(detector, rows):
    detector.set_params(random_state=3, max_epochs=2)
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002
    first = weights(detector.fit(rows))
    torch.manual_seed(2)
    np.random.seed(2)  # noqa: NPY002
    state = torch.get_rng_state()
    second = weights(detector.fit(rows))
    assert_array_equal(torch.get_rng_state(), state)
    for name, value in first.items():
        assert_array_equal(value, second[name])
    other = weights(detector.set_params(random_state=4).fit(rows))
    assert any(not np.array_equal(first[name], other[name]) for name in first)


def window_of(detector):
    """Return the steps of a window, 1 for rows; ICL's windows are of features."""
    size = getattr(detector, "window_size", 1)
    return 1 if size == "auto" else size


@pytest.mark.by_turns
@pytest.mark.parametrize("n", [3, 33])
def test_last_batch_of_one_and_fewer_rows_than_a_batch(detector, rows, n):
    n = max(n, window_of(detector) + 2)  # of series, a few windows
    detector.set_params(batch_size=32, max_epochs=2, random_state=0).fit(rows[:n])
    assert np.isfinite(detector.score_samples(rows)).all()
    after = weights(detector)
    before = weights(detector.set_params(max_epochs=1).fit(rows[:n]))
    assert any(
        name.endswith("weight") and not np.array_equal(value, before[name])
        for name, value in after.items()
    )


@pytest.mark.by_turns
def test_images_and_rows_with_a_shape_agree(shaped, images):
    shaped.set_params(max_epochs=2, random_state=0, hidden_sizes=(4, 8))
    shaped.fit(images[:30])
    maps = shaped.transform(images[30:])
    assert maps.shape == (10, 11, 9)
    assert np.isfinite(maps).all()
    scores = shaped.score_samples(images[30:])
    assert_array_equal(scores, shaped.score_samples(images[30:]))
    flat = images.reshape(40, -1)
    shaped.set_params(image_shape=(11, 9, 3)).fit(flat[:30])
    assert_allclose(shaped.score_samples(flat[30:]), scores, rtol=1e-5)
    assert shaped.transform(flat[30:]).shape == (10, 11, 9)
    with pytest.raises(ValueError, match=r"features|shape"):
        shaped.score_samples(images[30:, :5])


def test_uint8_images_are_brought_to_unit_range(images):
    bytes_ = (images * 255).astype(np.uint8)
    one = AutoEncoder(**SMALL).fit(bytes_)
    two = AutoEncoder(**SMALL).fit(bytes_ / np.float32(255))
    assert_array_equal(
        one.score_samples(bytes_), two.score_samples(bytes_ / np.float32(255))
    )


def test_image_shape_must_fit(rows):
    with pytest.raises(ValueError, match=r"image_shape=\(2, 2\) has 4 .* 5 features"):
        AutoEncoder(image_shape=(2, 2)).fit(rows)


def test_batches_are_a_partition_without_a_lone_sample():
    x = torch.arange(33.0)
    parts = [b for b, _ in Batches(x, None, 8, torch.device("cpu"), shuffle=True)]
    assert [len(part) for part in parts] == [8, 8, 8, 9]
    assert_array_equal(torch.cat(parts).sort().values, x)
    assert len(Batches(x[:1], None, 8, torch.device("cpu"), shuffle=False)) == 1


@pytest.mark.parametrize("shuffle", [True, False])
def test_batches_are_the_same_however_many_are_gathered(shuffle, monkeypatch):
    x, y = torch.arange(66.0).reshape(33, 2), torch.arange(33)
    found = []
    for elements in (1, 40, 10**6):  # one batch at once, two, all
        monkeypatch.setattr("skad._training._batches._GATHERED_ELEMENTS", elements)
        torch.manual_seed(0)
        found.append(list(Batches(x, y, 8, torch.device("cpu"), shuffle=shuffle)))
    for parts in zip(*found, strict=True):
        for rows, labels in parts:
            assert torch.equal(rows[:, 0], 2.0 * labels)
            assert torch.equal(rows, parts[0][0])


def test_nan_loss_names_epoch_and_learning_rate(rows):
    with pytest.raises(
        ValueError, match=r"became (nan|inf) in epoch \d+ with lr=1e\+25"
    ):
        AutoEncoder(**SMALL, lr=1e25, optimizer="sgd").fit(rows)


def test_patience_keeps_the_best_weights(rows):
    detector = AutoEncoder(**{**SMALL, "max_epochs": 300}, lr=0.05, patience=3)
    detector.fit(rows)
    losses = [row["valid_loss"] for row in detector.history_]
    assert len(losses) < 300
    assert np.argmin(losses) == len(losses) - 4
    assert -detector.score_samples(rows).mean() / 5 < 2 * min(losses)


def test_warm_start_and_partial_fit_go_on(rows):
    detector = AutoEncoder(**SMALL, warm_start=True).fit(rows)
    loss = detector.history_[-1]["train_loss"]
    detector.set_params(max_epochs=20).fit(rows)
    assert len(detector.history_) == 23
    assert detector.history_[-1]["train_loss"] < loss
    stream = AutoEncoder(**SMALL, lr=0.01)
    for _ in range(4):
        stream.partial_fit(rows[:50]).partial_fit(rows[50:])
    assert len(stream.history_) == 8
    assert stream.n_samples_seen_ == 400
    assert stream.history_[-2]["train_loss"] < stream.history_[0]["train_loss"]


def test_failed_warm_start_keeps_the_weights(rows):
    detector = AutoEncoder(**SMALL, warm_start=True).fit(rows)
    before = {name: value.copy() for name, value in weights(detector).items()}
    detector.set_params(lr=1e25, optimizer="sgd")
    with pytest.raises(ValueError, match="became"):
        detector.fit(rows)
    for name, value in weights(detector).items():
        assert_array_equal(value, before[name])
    assert len(detector.history_) == 3


class Interrupt(Callback):
    """Interrupts as Ctrl-C does, in the third epoch."""

    def on_batch_end(self, net, **parameters):
        if len(net.history) == 3:
            raise KeyboardInterrupt


def test_interrupt_raises_or_keeps(rows):
    detector = AutoEncoder(**{**SMALL, "max_epochs": 9}, callbacks=[Interrupt()])
    with pytest.raises(KeyboardInterrupt):
        detector.fit(rows)
    assert not hasattr(detector, "net_")
    with pytest.warns(UserWarning, match="interrupted in epoch 3"):
        detector.set_params(on_interrupt="keep").fit(rows)
    assert len(detector.history_) == 2
    assert np.isfinite(detector.score_samples(rows)).all()


class Count(Callback):
    """Counts what it is told."""

    epochs = batches = gradients = 0

    def on_epoch_end(self, net, **parameters):
        Count.epochs += 1

    def on_batch_end(self, net, **parameters):
        Count.batches += 1

    def on_grad_computed(self, net, named_parameters, **parameters):
        Count.gradients += sum(w.grad is not None for _, w in named_parameters) > 0


def test_skorch_callbacks_go_through(rows):
    AutoEncoder(**SMALL, batch_size=50, callbacks=[Count()]).fit(rows)
    assert (Count.epochs, Count.batches, Count.gradients) == (3, 6, 6)
    stop = EarlyStopping(monitor="train_loss", patience=2, threshold=10, sink=_quiet)
    detector = AutoEncoder(**{**SMALL, "max_epochs": 50}, callbacks=[stop]).fit(rows)
    # none is ten times as good as the first, and the second that is not ends the fit
    assert [one["epoch"] for one in detector.history_] == [1, 2, 3]


def test_an_epoch_that_a_callback_ends_is_an_epoch(rows):
    class After(Callback):
        def on_epoch_end(self, net, **parameters):
            if len(net.history) == 3:
                raise KeyboardInterrupt

    short = AutoEncoder(**SMALL).fit(rows)
    ended = AutoEncoder(**{**SMALL, "max_epochs": 9}, callbacks=[After()]).fit(rows)
    assert len(ended.history_) == len(short.history_) == 3
    for name, value in weights(ended).items():
        assert_array_equal(value, weights(short)[name])
    # and what a method does at the end of every epoch is done
    short = OCNN(max_epochs=3, random_state=0).fit(rows)
    ended = OCNN(max_epochs=9, callbacks=[After()], random_state=0).fit(rows)
    assert_array_equal(ended.score_samples(rows), short.score_samples(rows))


@pytest.mark.parametrize(
    ("factor", "message"),
    [(np.nan, "weights are not finite after epoch 1 with lr=0.00"), (1e19, "is NaN")],
)
def test_what_no_loss_came_after_is_looked_at(factor, message):
    class Spoil(Callback):
        def on_epoch_end(self, net, **parameters):
            with torch.no_grad():
                for weight in net.module_.parameters():
                    weight.mul_(factor)

    pictures = np.random.default_rng(0).uniform(size=(20, 16, 16)).astype(np.float32)
    detector = FastFlow(max_epochs=1, callbacks=[Spoil()], random_state=0)
    with pytest.raises(ValueError, match=message):
        detector.fit(pictures)
    assert not hasattr(detector, "offset_")


def test_a_checkpoint_is_a_folder(rows, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"checkpoint='.*file' is a file, and a fold"):
        AutoEncoder(**SMALL, checkpoint=tmp_path / "file").fit(rows)


def _quiet(message):
    """Take the place of print."""


def test_scikit_learn_callbacks_see_epochs_and_scores(rows):
    callback = pytest.importorskip("sklearn.callback")
    monitor = callback.ScoringMonitor(scoring="roc_auc")
    y = np.where(np.arange(100) < 90, 1, -1)
    detector = AutoEncoder(**SMALL, lr=1e-3).set_callbacks(
        monitor, callback.ProgressBar()
    )
    detector.fit(rows, y)
    log = monitor.get_logs()
    scores = [
        row["roc_auc"] for row in log.data if row["task_name"] == "fit epochs step"
    ]
    assert len(scores) == 3
    assert len(set(scores)) > 1
    plain = AutoEncoder(**SMALL, lr=1e-3).fit(rows, y)
    assert_same_weights(detector, plain)


@pytest.mark.parametrize(
    ("cls", "parameters"),
    [(AutoEncoder, {"patience": 50}), (DeepSVDD, {"objective": "soft-boundary"})],
)
def test_killed_fit_resumes_to_the_same_result(cls, parameters, rows, tmp_path):
    parameters = {**SMALL, "max_epochs": 40, **parameters}
    if cls is DeepSVDD:
        parameters.update(pretrain_epochs=5)
    np.save(tmp_path / "rows.npy", rows)
    code = f"""
    import numpy as np, time, skad
    from skorch.callbacks import Callback
    class Slow(Callback):
        def on_epoch_end(self, net, **parameters):
            time.sleep(0.05)
    X = np.load({str(tmp_path / "rows.npy")!r})
    skad.{cls.__name__}(**{parameters!r}, callbacks=[Slow()],
        checkpoint={str(tmp_path / "fit")!r}).fit(X)
    """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)])
    file = tmp_path / "fit" / f"{cls.__name__}.pt"
    deadline, epochs = time.monotonic() + 60, 0
    while epochs < 12 and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.02)
        if file.exists():
            epochs = torch.load(file, weights_only=True)["n_epochs"]
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert epochs >= 12
    resumed = cls(**parameters, checkpoint=tmp_path / "fit").fit(rows)
    whole = cls(**parameters).fit(rows)
    assert_same_weights(resumed, whole)
    assert resumed.offset_ == whole.offset_
    assert len(resumed.history_) == len(whole.history_)
    again = cls(**parameters, checkpoint=tmp_path / "fit").fit(rows)
    assert_same_weights(again, whole)


def test_checkpoint_of_another_fit_is_refused(rows, tmp_path):
    AutoEncoder(**SMALL, checkpoint=tmp_path).fit(rows)
    with pytest.raises(
        ValueError, match=r"checkpoint=.* other parameters or other data"
    ):
        AutoEncoder(**SMALL, lr=0.1, checkpoint=tmp_path).fit(rows)
    with pytest.raises(
        ValueError, match=r"checkpoint=.* other parameters or other data"
    ):
        AutoEncoder(**SMALL, checkpoint=tmp_path).fit(rows + 1)


def test_amp_trains_in_lower_precision(rows):
    plain = AutoEncoder(**SMALL).fit(rows)
    low = AutoEncoder(**SMALL, amp="bf16").fit(rows)
    assert not np.array_equal(
        weights(low)["encoder.layers.0.weight"],
        weights(plain)["encoder.layers.0.weight"],
    )
    assert_allclose(low.score_samples(rows), plain.score_samples(rows), rtol=0.2)


def test_scores_follow_the_dtype_of_the_input(rows):
    detector = AutoEncoder(**SMALL).fit(rows)
    assert next(detector.net_.parameters()).dtype == torch.float32
    with torch.no_grad():
        x = torch.from_numpy(rows)
        rebuilt = detector.net_.double().reconstruct(x)
    detector.net_.float()
    exact = -((x - rebuilt) ** 2).sum(1).numpy()
    assert_allclose(detector.score_samples(rows), exact, rtol=1e-12)
    single = detector.score_samples(rows.astype(np.float32))
    assert np.abs(single / exact - 1).max() > 1e-9  # float32 arithmetic


def test_scores_follow_weights_that_are_changed(rows):
    detector = AutoEncoder(**SMALL).fit(rows)
    size = len(pickle.dumps(detector))
    scores = detector.score_samples(rows)
    assert len(pickle.dumps(detector)) == size  # the copy in float64 stays outside
    other = AutoEncoder(**{**SMALL, "random_state": 1}).fit(rows)
    detector.net_.load_state_dict(other.net_.state_dict())
    assert_array_equal(detector.score_samples(rows), other.score_samples(rows))
    assert not np.array_equal(scores, other.score_samples(rows))


def test_optimizers_are_those_of_torch(rows):
    fused = AutoEncoder(**SMALL, optimizer="adam", weight_decay=0.1).fit(rows)
    plain = AutoEncoder(**SMALL, optimizer=torch.optim.Adam, weight_decay=0.1)
    for one, two in zip(
        weights(fused).values(), weights(plain.fit(rows)).values(), strict=True
    ):
        assert_allclose(one, two, atol=1e-6)


class Tiny(nn.Module):
    """A user's architecture, between any two shapes."""

    def __init__(self, input_shape, output_shape, bias=True):
        super().__init__()
        self.output_shape = output_shape
        sizes = int(np.prod(input_shape)), int(np.prod(output_shape))
        self.layer = nn.Linear(*sizes, bias=bias)

    def forward(self, x):
        """Map (b, *input_shape) to (b, *output_shape)."""
        return self.layer(x.flatten(1)).reshape(-1, *self.output_shape)


@pytest.mark.by_turns
def test_any_module_class_is_an_architecture(shaped, rows, images):
    if type(shaped).__name__ == "SkipGANomaly":
        pytest.skip("needs skips between its layers")
    shaped.set_params(
        architecture=Tiny, hidden_sizes=None, max_epochs=2, random_state=0
    )
    assert any(isinstance(part, Tiny) for part in shaped.fit(rows).net_.modules())
    assert np.isfinite(shaped.score_samples(rows)).all()
    assert shaped.fit(images).transform(images).shape == (40, 11, 9)


@pytest.mark.parametrize("size", [(1, 1, 1), (1, 2, 7), (3, 28, 28), (2, 33, 17)])
def test_conv_leads_between_images_and_vectors(size):
    x = torch.randn(4, *size)
    code = Conv(size, (5,))(x)
    assert code.shape == (4, 5)
    assert Conv((5,), size)(code).shape == x.shape
    assert Conv(size, size)(x).shape == x.shape
    with pytest.raises(ValueError, match="Conv needs an image"):
        Conv((3,), (4,))


def test_build_mirrors_the_hidden_layers():
    decoder = build("auto", (2,), (9,), (7, 4))
    assert [w.shape[0] for w in decoder.parameters() if w.ndim == 2] == [4, 7, 9]
    assert isinstance(build("auto", (2,), (1, 8, 8)), Conv)
    assert not [
        name
        for name, _ in build("mlp", (3,), (2,), bias=False).named_parameters()
        if "bias" in name
    ]
    assert isinstance(build("mlp", (1, 8, 8), (3,)), MLP)


def test_deep_svdd_has_the_nu_property(rows):
    for nu in (0.05, 0.2, 0.5):
        detector = DeepSVDD(
            objective="soft-boundary", nu=nu, n_warm_up_epochs=2, **SMALL
        ).fit(rows)
        assert (detector.predict(rows) == -1).mean() == pytest.approx(nu, abs=0.02)
        assert detector.offset_ == -(detector.radius_**2)


def test_deep_svdd_cannot_collapse(rows):
    detector = DeepSVDD(**SMALL).fit(rows)
    assert not [n for n, _ in detector.net_.encoder.named_parameters() if "bias" in n]
    assert (detector.net_.centre.abs() >= 0.1 - 1e-6).all()
    codes = detector.net_.encoder(torch.from_numpy(rows).float())
    by_hand = ((codes - detector.net_.centre) ** 2).sum(1)
    assert_allclose(-detector.score_samples(rows), by_hand, rtol=1e-4)
    assert by_hand.std() > 0


@pytest.mark.parametrize("cls", [DeepSVDD, DeepSAD])
def test_deep_svdd_map_sums_to_the_way_from_the_mean_row(cls, rows):
    settings = {**SMALL, "max_epochs": 30, "lr": 0.01, "pretrain_epochs": 20}
    detector = cls(**settings).fit(rows)
    way = detector.score_samples(rows.mean(axis=0)[None]) - detector.score_samples(rows)
    assert_allclose(detector.transform(rows).sum(axis=1), way, atol=0.02 * np.ptp(way))


def test_deep_svdd_trains_beyond_its_centre(rows):
    """A network that stands still can clear a floor of quality, but not this one."""
    settings = {**SMALL, "pretrain_epochs": 0, "lr": 0.01}
    still = DeepSVDD(**{**settings, "lr": 1e-30}).fit(rows)
    moved = DeepSVDD(**{**settings, "max_epochs": 30}).fit(rows)
    assert_array_equal(still.net_.centre, moved.net_.centre)
    assert moved.score_samples(rows).mean() > 0.5 * still.score_samples(rows).mean()


def test_deep_svdd_pretrains_an_autoencoder(rows):
    detector = DeepSVDD(**SMALL, pretrain_epochs=30, lr=0.01).fit(rows)
    phases = [row["phase"] for row in detector.history_]
    assert phases == ["pretrain"] * 30 + ["fit"] * 3
    losses = [row["train_loss"] for row in detector.history_]
    assert losses[29] < 0.8 * losses[0]


def test_deep_sad_loss_is_the_papers():
    from skad.one_class._deep_sad import DeepSADNetwork

    torch.manual_seed(0)
    network = DeepSADNetwork(
        (3,), latent_size=2, architecture="mlp", hidden_sizes=(4,), eta=2.0
    )
    network.centre += 0.3
    x, y = torch.randn(6, 3), torch.tensor([0, 0, 1, 1, -1, -1])
    d = network.squared_distance(x)
    by_hand = (d[:2].sum() + 2 * d[2:4].sum() + 2 * (1 / (d[4:] + 1e-6)).sum()) / 6
    assert_allclose(network.loss(x, y).item(), by_hand.item(), rtol=1e-6)


def test_deep_sad_uses_known_anomalies():
    rng = np.random.default_rng(0)
    normal, near = rng.normal(size=(300, 4)), rng.normal(1.5, 0.3, size=(40, 4))
    X, y = np.concatenate([normal, near]), np.repeat([0, -1], [300, 40])
    settings = {**SMALL, "max_epochs": 60, "hidden_sizes": (16,), "lr": 0.01}
    with_labels = DeepSAD(**settings).fit(X, y)
    without = DeepSAD(**settings).fit(X)

    def rank(detector):
        return (
            detector.score_samples(near)[:, None] < detector.score_samples(normal)
        ).mean()

    assert rank(with_labels) > rank(without) + 0.1
    with pytest.warns(UserWarning, match="labels other than"):
        DeepSAD(**SMALL).fit(X, y + 7)
    with pytest.raises(ValueError, match="labels for 340 samples"):
        DeepSAD(**SMALL).fit(X, y[:5])
