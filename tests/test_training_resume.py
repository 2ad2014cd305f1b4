"""What goes on from where it was: checkpoints, interrupts, warm starts."""

import copy
import warnings

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from skorch.callbacks import Callback, EarlyStopping, LRScheduler

from skad.adversarial import EGBAD, AnoGAN, FAnoGAN
from skad.one_class import DeepSVDD
from skad.reconstruction import AutoEncoder
from skad.series import USAD

SMALL = {"hidden_sizes": (8,), "latent_size": 2, "max_epochs": 3, "random_state": 0}


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    return rng.normal(size=(100, 5)) @ rng.normal(size=(5, 5))


def weights(detector):
    return {k: v.numpy().copy() for k, v in detector.net_.state_dict().items()}


def assert_same_weights(one, two):
    one, two = weights(one), weights(two)
    assert one.keys() == two.keys()
    for name, value in one.items():
        assert_array_equal(value, two[name], err_msg=name)


def quiet(message):
    """Take the place of print."""


class At(Callback):
    """Raises an error behind a batch of an epoch of a phase."""

    def __init__(self, error, epoch, phase="fit", batch=1):
        self.error, self.epoch, self.phase, self.batch = error, epoch, phase, batch

    def on_batch_end(self, net, training, **parameters):
        here = net.held["phase"], len(net.history), len(net.history[-1]["batches"])
        if training and here == (self.phase, self.epoch, self.batch):
            raise self.error


class Stopped(Exception):  # noqa: N818
    """Ends a fit as a power cut does."""


# ---------------------------------------------------------------------- more epochs


@pytest.mark.parametrize(
    ("cls", "more"),
    [
        (AutoEncoder, {"max_epochs": 7}),
        (EGBAD, {"max_epochs": 7}),
        (DeepSVDD, {"max_epochs": 7}),
        (FAnoGAN, {"encoder_epochs": 7}),
    ],
)
def test_a_finished_fit_takes_more_epochs(cls, more, rows, tmp_path):
    detector = cls(**SMALL, checkpoint=tmp_path, contamination=0.1).fit(rows)
    n_before = len(detector.history_)
    detector.set_params(**more).fit(rows)
    assert len(detector.history_) == n_before + 4
    whole = cls(**{**SMALL, **more}, contamination=0.1).fit(rows)
    assert_same_weights(detector, whole)
    assert detector.offset_ == whole.offset_


def test_fewer_epochs_than_a_checkpoint_has_are_refused(rows, tmp_path):
    detector = AutoEncoder(**SMALL, checkpoint=tmp_path).fit(rows)
    with pytest.raises(ValueError, match=r"holds 3 epochs .* more than the 2 that"):
        detector.set_params(max_epochs=2).fit(rows)


def test_epochs_of_a_phase_that_is_over_cannot_change(rows, tmp_path):
    detector = DeepSVDD(**SMALL, pretrain_epochs=2, checkpoint=tmp_path).fit(rows)
    with pytest.raises(ValueError, match=r"past the phase 'pretrain' of 2 epochs"):
        detector.set_params(pretrain_epochs=4).fit(rows)


# -------------------------------------------------------------------- what cannot be


@pytest.mark.parametrize("how", ["cut", "text", "other", "list"])
def test_a_broken_checkpoint_says_what_to_do(how, rows, tmp_path):
    detector = AutoEncoder(**SMALL, checkpoint=tmp_path).fit(rows)
    file = tmp_path / "AutoEncoder.pt"
    if how == "cut":
        file.write_bytes(file.read_bytes()[:-500])
    elif how == "text":
        file.write_text("not a file of torch's")
    else:
        torch.save(detector.net_ if how == "other" else [1.0], file)
    with pytest.raises(
        ValueError, match=r"AutoEncoder.pt in it is broken.*remove"
    ) as e:
        detector.fit(rows)
    assert "weights_only" not in str(e.value)
    assert e.value.__suppress_context__  # nor does the traceback show what torch says


def test_a_checkpoint_asks_for_a_seed_that_stays(rows, tmp_path):
    detector = AutoEncoder(**SMALL, checkpoint=tmp_path)
    detector.set_params(random_state=np.random.RandomState(0))
    with pytest.raises(ValueError, match=r"random_state is a RandomState.*pass an int"):
        detector.fit(rows)
    cut = AutoEncoder(**SMALL, checkpoint=tmp_path, callbacks=[At(Stopped, 2)])
    with pytest.raises(Stopped):
        cut.set_params(random_state=None).fit(rows)
    assert len(cut.set_params(callbacks=None).fit(rows).history_) == 3


# ----------------------------------------------------------------------- callbacks


class Noting(Callback):
    """Notes the number of epochs, and says so in checkpoints."""

    n_epochs = 0

    def on_epoch_end(self, net, **parameters):
        self.n_epochs += 1
        if self.n_epochs == 5:
            raise KeyboardInterrupt  # as EarlyStopping does

    def state_dict(self):
        return {"n_epochs": self.n_epochs}

    def load_state_dict(self, state):
        self.n_epochs = state["n_epochs"]


def test_callbacks_with_a_state_go_on(rows, tmp_path):
    detector = AutoEncoder(**{**SMALL, "max_epochs": 20}, checkpoint=tmp_path)
    with pytest.raises(Stopped):
        detector.set_params(callbacks=[Noting(), At(Stopped, 4)]).fit(rows)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "callbacks=")
        detector.set_params(callbacks=[Noting()]).fit(rows)
    assert len(detector.history_) == 5  # with the one that a callback ended
    again = detector.set_params(callbacks=None).fit(rows)  # what was stopped is over
    assert len(again.history_) == 5


def test_callbacks_without_a_state_are_named(rows, tmp_path):
    stop = EarlyStopping(monitor="train_loss", patience=30, sink=quiet)
    detector = AutoEncoder(**SMALL, checkpoint=tmp_path)
    with (
        pytest.warns(UserWarning, match=r"callbacks=EarlyStopping .* is not saved"),
        pytest.raises(Stopped),
    ):
        detector.set_params(callbacks=[stop, At(Stopped, 3)]).fit(rows)
    detector.set_params(callbacks=[stop])
    with pytest.warns(UserWarning, match="callbacks=EarlyStopping") as caught:
        detector.fit(rows)
    messages = [str(one.message) for one in caught if "callbacks=" in str(one.message)]
    assert len(messages) == 1
    assert "was not saved" in messages[0]


def test_callbacks_that_learn_nothing_are_not_named(rows, tmp_path):
    falls = LRScheduler("StepLR", step_size=1)
    detector = AutoEncoder(**SMALL, checkpoint=tmp_path)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "callbacks=")
        with pytest.raises(Stopped):
            detector.set_params(callbacks=[falls, At(Stopped, 3)]).fit(rows)
        detector.set_params(callbacks=[falls]).fit(rows)


# ---------------------------------------------------------------------- interrupts


def test_an_interrupt_before_the_last_phase_begins_it(rows):
    stop = At(KeyboardInterrupt, 3, "pretrain")
    settings = {**SMALL, "pretrain_epochs": 9, "on_interrupt": "keep"}
    detector = DeepSVDD(**settings, callbacks=[stop])
    with pytest.warns(UserWarning, match="without the phase 'fit' of the training"):
        detector.fit(rows)
    net = detector.net_
    assert (net.centre.abs() >= 0.1 - 1e-6).all()
    assert net.baseline.any()
    assert [row["phase"] for row in detector.history_] == ["pretrain"] * 2
    assert np.ptp(detector.score_samples(rows)) > 0


@pytest.mark.parametrize(
    ("cls", "phase", "batch"),
    [(FAnoGAN, "generator", 1), (FAnoGAN, "generator", 2), (AutoEncoder, "fit", None)],
)
def test_what_was_never_made_is_not_kept(cls, phase, batch, rows):
    class First(Callback):
        def on_batch_begin(self, net, **parameters):
            if batch is None:
                raise KeyboardInterrupt

    stop = First() if batch is None else At(KeyboardInterrupt, 2, phase, batch)
    detector = cls(**SMALL, on_interrupt="keep", callbacks=[stop])
    with pytest.raises(KeyboardInterrupt, match=r"on_interrupt='keep' has nothing to"):
        detector.fit(rows)
    assert not hasattr(detector, "net_")
    # one that was made before is kept
    made = cls(**SMALL, warm_start=True).fit(rows)
    made.set_params(on_interrupt="keep", callbacks=[stop])
    with pytest.warns(UserWarning, match="interrupted in epoch"):
        made.fit(rows)
    assert np.isfinite(made.score_samples(rows)).all()


def test_an_interrupt_keeps_the_best_of_patience(rows):
    # at such a rate a loss before the last is the best
    settings = {**SMALL, "max_epochs": 20, "patience": 50, "lr": 5.0}
    whole = AutoEncoder(**settings).fit(rows)
    losses = [row["valid_loss"] for row in whole.history_]
    best = int(np.argmin(losses))
    assert 0 < best < 18
    stop = At(KeyboardInterrupt, best + 2)
    cut = AutoEncoder(**settings, on_interrupt="keep", callbacks=[stop])
    with pytest.warns(UserWarning, match=f"interrupted in epoch {best + 2}"):
        cut.fit(rows)
    until = AutoEncoder(**{**settings, "max_epochs": best + 1}).fit(rows)
    assert_same_weights(cut, until)


# ----------------------------------------------------------------------- warm starts


@pytest.mark.parametrize(
    ("cls", "name", "was", "now"),
    [
        (AutoEncoder, "hidden_sizes", (8,), (9,)),
        (EGBAD, "latent_size", 2, 3),
        (DeepSVDD, "architecture", "mlp", "auto"),
        (USAD, "hidden_sizes", (8,), (8, 4)),
    ],
)
def test_a_warm_start_names_what_differs(cls, name, was, now, rows):
    settings = {**SMALL, name: was}
    detector = cls(**settings, warm_start=True).fit(rows)
    before = copy.deepcopy(detector)
    detector.set_params(**{name: now})
    if name == "architecture":  # the same network by another name goes on
        assert len(detector.fit(rows).history_) > len(before.history_)
        return
    with pytest.raises(ValueError, match=rf"made with {name}=.*now has {name}=") as e:
        detector.fit(rows)
    assert f"{name}={was!r}" in str(e.value)
    assert f"{name}={now!r}" in str(e.value)
    assert_same_weights(detector, before)
    detector.set_params(warm_start=False).fit(rows)


def test_a_stream_names_what_differs(rows):
    detector = AutoEncoder(**SMALL).partial_fit(rows)
    with pytest.raises(ValueError, match=r"made with latent_size=2, and now has late"):
        detector.set_params(latent_size=4).partial_fit(rows)


def test_a_warm_start_takes_what_the_weights_do_not_depend_on(rows):
    detector = EGBAD(**SMALL, alpha=0.9, warm_start=True).fit(rows)
    assert detector.set_params(alpha=0.25).fit(rows).net_.alpha == 0.25


# --------------------------------------------------------------------------- patience


@pytest.mark.parametrize("cls", [EGBAD, AnoGAN, USAD])
def test_patience_of_opponents_watches_the_reconstruction(cls, rows):
    own = {"n_search_steps": 3} if cls is AnoGAN else {}
    detector = (
        cls(**SMALL, **own, patience=5, window_size=4)
        if cls is USAD
        else (cls(**SMALL, **own, patience=5))
    )

    class Last(Callback):
        errors = []

        def on_epoch_end(self, net, **parameters):
            with torch.no_grad():
                parts = [net.module_.rebuilt(x) for x, _ in net.held["valid"]]
            x, made = (torch.cat(one) for one in zip(*parts, strict=True))
            Last.errors.append(float((x - made).square().mean()))

    detector.set_params(callbacks=[Last()]).fit(rows)
    watched = [row["valid_loss"] for row in detector.history_]
    np.testing.assert_allclose(watched, Last.errors, rtol=1e-5)


def test_patience_has_nothing_to_watch_in_a_game_alone(rows):
    detector = FAnoGAN(**{**SMALL, "max_epochs": 12}, patience=1).fit(rows)
    phases = [row["phase"] for row in detector.history_]
    assert phases.count("generator") == 12
    for row in detector.history_:
        assert ("valid_loss" in row) == (row["phase"] == "encoder")
