"""Warnings of trainings that are worth little, and errors that say what to do."""

import re
import warnings
from itertools import count as counted
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.base import clone
from torch import nn

from skad._training import _advice
from skad._training._held_out import held_samples
from skad.adversarial import EGBAD
from skad.image import EfficientAD
from skad.image._base import ImageDetector
from skad.neighbors import LUNAR
from skad.one_class import OCCNN, DeepSVDD
from skad.reconstruction import VAE, AutoEncoder, MemAE, RaPP
from skad.series import USAD, DeepAnT, LSTMForecaster
from tests.test_training import Tiny, networks

SMALL = {"hidden_sizes": (8,), "latent_size": 2, "max_epochs": 2, "random_state": 0}
SCALE = r"largest feature of X has a root mean square of .*make_pipeline\(StandardScal"
REBUILT = r" rebuilds .* no better than their mean does"


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    mixed = rng.normal(size=(200, 2)) @ rng.normal(size=(2, 6))
    mixed /= mixed.std(0)
    return mixed + 0.1 * rng.normal(size=(200, 6))


def messages(detector, X):
    """Return what a fit warns of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        detector.fit(X)
    return [str(one.message) for one in caught]


def count(pattern, found):
    return sum(re.search(pattern, one) is not None for one in found)


def brief(detector):
    """Return a detector of one epoch in steps of nothing."""
    lengths = {"max_epochs": 1, "pretrain_epochs": 1, "n_search_steps": 2, "lr": 1e-12}
    known = detector.get_params()
    return clone(detector).set_params(
        **{name: value for name, value in lengths.items() if name in known},
        random_state=0,
    )


# -------------------------------------------------------------------------- the time

LONG = r"took (\d+) s for (\d+) of (\d+) steps, so that the fit takes about (\d+) min"


def at_pace(monkeypatch, seconds):
    """Let each step take as many seconds, as the clock of the advice says."""
    clock = (i * seconds for i in counted())
    fake = SimpleNamespace(perf_counter=lambda: next(clock))
    monkeypatch.setattr(_advice, "time", fake)


def long(found):
    """Return the numbers of what is said of the time: at most once."""
    said = [match for one in found if (match := re.search(LONG, one))]
    assert len(said) < 2
    return [int(number) for number in said[0].groups()] if said else None


def test_a_long_fit_says_so_once(monkeypatch, rows):
    detector = AutoEncoder(**{**SMALL, "max_epochs": 30}, batch_size=16)
    at_pace(monkeypatch, 6.1)  # 160 training samples in 10 steps, 30 times
    found = messages(detector, rows)
    assert long(found) == [12, 2, 300, round(300 * 6.1 / 60)]
    assert any("Lower max_epochs (30 now), take a GPU" in one for one in found)
    at_pace(monkeypatch, 5.9)
    assert long(messages(detector, rows)) is None
    at_pace(monkeypatch, 6.1)
    assert long(messages(detector.set_params(max_epochs=29), rows)) is None
    at_pace(monkeypatch, 1e4)  # no step after the first: nothing is known
    detector.set_params(max_epochs=1, batch_size=200)
    assert long(messages(detector, rows)) is None


def test_all_phases_to_come_count(monkeypatch):
    pictures = np.random.default_rng(0).random((10, 16, 16))
    detector = EfficientAD(
        channels=4,
        width=2,
        latent_size=2,
        teacher_epochs=20,
        max_epochs=2,
        random_state=0,
        contamination=0.1,
        device="cpu",
    )
    at_pace(monkeypatch, 20.0)
    found = messages(detector, pictures)
    n_steps = 22 * 9  # a last picture joins the one before
    assert long(found) == [20, 1, n_steps, round(n_steps / 3)]
    named = "max_epochs (2 now) or teacher_epochs (20 now) or image_size (None now)"
    assert any(named in one for one in found)


def test_pieces_of_a_stream_say_nothing_of_time(monkeypatch, rows):
    at_pace(monkeypatch, 1e4)
    detector = AutoEncoder(**SMALL, batch_size=16)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", LONG)
        detector.partial_fit(rows)


def test_the_time_is_said_where_fit_was_called(monkeypatch, rows):
    at_pace(monkeypatch, 1e4)
    with pytest.warns(_advice.TrainingWarning, match=LONG) as caught:
        AutoEncoder(**SMALL, batch_size=16).fit(rows)
    assert any(one.filename == __file__ for one in caught)


# ------------------------------------------------------------------------- the scale


@pytest.mark.by_turns
@pytest.mark.parametrize("detector", networks(), ids=lambda one: type(one).__name__)
def test_features_far_from_unit_scale_are_named(detector, rows):
    found = messages(brief(detector), rows * 1e6)
    # rows are pictures of one row to those with a backbone; distances have a unit of
    # their own
    wants = not isinstance(detector, ImageDetector | USAD | LUNAR | OCCNN)
    assert count(SCALE, found) == wants, found
    if wants:
        assert count(SCALE, messages(brief(detector), rows * 1e-6)) == 1
    assert count(SCALE, messages(brief(detector), rows)) == 0


def test_one_large_feature_is_enough(rows):
    X = rows.copy()
    X[:, 3] += 1000
    found = messages(AutoEncoder(**SMALL), X)
    (message,) = [one for one in found if "largest feature" in one]
    assert "root mean square of 1e+03" in message
    assert "make_pipeline(StandardScaler(), AutoEncoder(...))" in message
    assert count(SCALE, messages(AutoEncoder(**SMALL), torch.from_numpy(X))) == 1


@pytest.mark.parametrize("value", [7.0, -7.0, 90.0])
def test_a_constant_feature_off_zero_is_named(rows, value):
    X = np.insert(rows, 2, value, axis=1)
    found = messages(AutoEncoder(**SMALL), X)
    (message,) = [one for one in found if "around 0" in one]
    assert f"Feature 2 is {value:.2g} in the mean" in message
    assert "make_pipeline(StandardScaler(), AutoEncoder(...))" in message
    for little in (np.insert(rows, 2, 3.0, axis=1), rows + 2):
        assert not any(
            "around 0" in one for one in messages(AutoEncoder(**SMALL), little)
        )
    pictures = 0.9 + 0.01 * np.random.default_rng(0).normal(size=(20, 8, 8))
    assert not any(
        "around 0" in one for one in messages(AutoEncoder(**SMALL), pictures)
    )


def test_pictures_and_zeros_have_no_scale():
    pictures = np.random.default_rng(0).uniform(size=(20, 8, 8)) * 1e-5
    assert count(SCALE, messages(AutoEncoder(**SMALL), pictures)) == 0
    zeros = np.zeros((20, 3))
    found = messages(AutoEncoder(**SMALL), zeros)
    assert count(SCALE, found) == count(REBUILT, found) == 0


def test_copies_and_streams_say_nothing(rows):
    few = rows[:8] * 1e6  # copies without some of them are fitted
    assert count(SCALE, messages(AutoEncoder(**SMALL), few)) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        AutoEncoder(**SMALL).partial_fit(rows * 1e6).partial_fit(rows * 1e6)


# ------------------------------------------------------------------- reconstructions


def test_the_reconstruction_of_every_network_is_compared(rows):
    names = set()
    for one in networks():
        detector = brief(one)
        if count(REBUILT, messages(detector, rows + 3)):  # an untrained one says 0
            names.add(type(one).__name__)
            samples = detector._samples(detector._validate(rows, reset=False))
            x, made = detector.net_.rebuilt(samples[:5].float())
            assert x.shape == made.shape
    assert names == {
        *("AAE", "ADAE", "ALAD", "ALOCC", "AnoGAN", "EGBAD", "FAnoGAN", "GANomaly"),
        *("ALAE", "GPND", "HADGAN", "OCGAN", "OGNet", "RGI"),
        *("AnoSeg", "AVID", "OCRGAN", "PositiveSamples", "SCADN", "VideoGAN"),
        *(
            "DPNoveltySGD",
            "MemAE",
            "RCA",
            "RaPP",
            "RSRAE",
            "SkipGANomaly",
            "VAE",
            "DAGMM",
            "IGD",
            "DASVDD",
        ),
        "LikelihoodRegret",
        *(
            "LSTMAutoEncoder",
            "OmniAnomaly",
        ),  # AutoEncoder, USAD begin at about the mean
    }


@pytest.mark.parametrize("cls", [AutoEncoder, MemAE, RaPP, VAE])
@pytest.mark.parametrize("contamination", ["auto", 0.1])
def test_what_learns_is_not_warned_of(cls, contamination, rows):
    settings = {**SMALL, "max_epochs": 40, "lr": 0.01, "contamination": contamination}
    assert count(REBUILT, messages(cls(**settings), rows)) == 0


def test_errors_of_held_out_samples_are_compared(rows):
    still = {**SMALL, "lr": 1e-12}
    rows = rows + 3
    (message,) = messages(AutoEncoder(**still), rows)
    detector = AutoEncoder(**still).fit(rows)
    held = rows[held_samples(200, 0.2)]
    with torch.no_grad():
        made = detector.net_.reconstruct(torch.from_numpy(held).float()).numpy()
    apart = (held - held.mean(0)) * (len(held) / (len(held) - 1)) ** 0.5
    error, mean = (
        torch.from_numpy(gap**2).mean(1).median() for gap in (held - made, apart)
    )
    assert (
        f"held out no better than their mean does: the median squared errors are "
        f"{error:.3g} and {mean:.3g}" in message
    )
    (message,) = messages(AutoEncoder(**still, contamination=0.1), rows)
    assert "rebuilds the training samples" in message


def test_few_samples_far_out_do_not_decide(rows):
    rows = rows.copy()
    rows[held_samples(200, 0.2)[:3]] *= 100  # rebuilt worse than by the mean
    settings = {**SMALL, "max_epochs": 40, "lr": 0.01}
    assert count(REBUILT, messages(AutoEncoder(**settings), rows)) == 0


def test_similarity_of_structure_is_not_an_error_of_squares():
    pictures = np.random.default_rng(0).uniform(size=(30, 8, 8))
    still = {**SMALL, "lr": 1e-12}
    assert count(REBUILT, messages(AutoEncoder(**still, loss="ssim"), pictures)) == 0
    assert count(REBUILT, messages(AutoEncoder(**still), pictures)) == 1


# ------------------------------------------------------------------ errors of arguments


@pytest.mark.parametrize("cls", [AutoEncoder, EGBAD, DeepAnT, LSTMForecaster])
@pytest.mark.parametrize("size", [0, "a", 2.5, True, -3])
def test_sizes_are_whole_numbers(cls, size, rows):
    match = rf"hidden_sizes=\(8, {size!r}\) must be whole numbers.*one is {size!r}"
    with pytest.raises(ValueError, match=match):
        cls(hidden_sizes=(8, size)).fit(rows)


def test_convolutions_need_a_size():
    with pytest.raises(ValueError, match=r"hidden_sizes=\(\) leaves Conv without"):
        AutoEncoder(hidden_sizes=()).fit(
            np.random.default_rng(0).uniform(size=(9, 8, 8))
        )


class NoBias(nn.Module):
    """Takes no bias."""

    def __init__(self, input_shape, output_shape):
        super().__init__()
        self.layer = nn.Linear(*input_shape, *output_shape)

    def forward(self, x):
        return self.layer(x)


class Keywords(Tiny):
    """Takes whatever there is."""

    def __init__(self, *shapes, **others):
        super().__init__(*shapes, bias=others.get("bias", True))


def test_architectures_say_what_they_lack(rows):
    small = {**SMALL, "hidden_sizes": None}
    with pytest.raises(
        ValueError, match=r"architecture=NoBias takes no argument `bias`"
    ):
        DeepSVDD(**small, architecture=NoBias).fit(rows)
    AutoEncoder(**small, architecture=NoBias).fit(rows)  # has biases anyway
    DeepSVDD(**small, architecture=Keywords).fit(rows)
    with pytest.raises(
        ValueError, match=r"architecture=NoBias takes no argument `hidd"
    ):
        AutoEncoder(**SMALL, architecture=NoBias).fit(rows)
    with pytest.raises(ValueError, match=r"architecture=Linear is called with \(input"):
        AutoEncoder(**small, architecture=type("Linear", (), {"__init__": one})).fit(
            rows
        )
    with pytest.raises(ValueError, match=r"architecture=nothing returns a str"):
        AutoEncoder(**small, architecture=nothing).fit(rows)


def one(self, shape):
    """Take one shape only."""


def nothing(input_shape, output_shape):
    """Return what is no module."""
    return ""


def test_optimizers_with_a_closure_are_refused(rows):
    with pytest.raises(ValueError, match=r"optimizer=LBFGS computes.*optimizer='adam'"):
        AutoEncoder(**SMALL, optimizer=torch.optim.LBFGS).fit(rows)
    with pytest.raises(ValueError, match=r"optimizer=made computes"):
        AutoEncoder(**SMALL, optimizer=made, weight_decay=0).fit(rows)
    with pytest.raises(ValueError, match=r"optimizer=Rprop takes no .*0\.001"):
        AutoEncoder(**SMALL, optimizer=torch.optim.Rprop).fit(rows)
    AutoEncoder(**SMALL, optimizer=torch.optim.Rprop, weight_decay=0).fit(rows)


def made(weights, lr):
    """Return an optimizer with a closure."""
    return torch.optim.LBFGS(weights, lr=lr)


def test_rapp_sees_what_differs_from_constant_rows():
    X = np.tile([1.0, 100.0, -3.0, 0.1], (50, 1))
    with pytest.warns(UserWarning, match="All .* training samples got the score"):
        detector = RaPP(**SMALL).fit(X)
    other = X[:3] + np.diag([0.1, 1.0, 10.0, 0.0])[:3]
    assert (detector.predict(other) == -1).all()
    scores = detector.score_samples(other)
    assert scores[0] > scores[1] > scores[2]
    assert (detector.predict(X) == 1).all()
