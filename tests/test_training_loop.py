"""What a method may ask of the loop: schedules, clipping, averages, frozen parts."""

import copy
import math

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from skorch.callbacks import Callback, GradientNormClipping, LRScheduler
from torch import nn

from skad._parameters import with_parameters
from skad._training import ShapedDetector, from_parameters, lower_after, warm_cosine
from skad._training._batches import Batches
from skad.nn.network import Network, all_but


@pytest.fixture(scope="module")
def rows():
    return np.random.default_rng(0).normal(size=(60, 4))


class TwoNetwork(Network):
    """Two groups of weights, a frozen teacher, and a backbone that is trained in part.

    What the scores are does not matter.
    """

    frozen_parts = ("teacher", "backbone.0")
    fixed_statistics = ("backbone",)

    def __init__(self, d):
        super().__init__()
        self.first, self.second = nn.Linear(d, d), nn.Linear(d, d)
        self.teacher = nn.Sequential(nn.Linear(d, d), nn.BatchNorm1d(d))
        self.backbone = nn.Sequential(
            nn.Linear(d, d), nn.Sequential(nn.BatchNorm1d(d), nn.Linear(d, d))
        )
        self.seen = []

    def groups(self, phase):
        return {
            "first": self.first.parameters(),
            # the teacher by mistake
            "second": [
                {"params": self.second.parameters()},
                {"params": [*self.backbone.parameters(), *self.teacher.parameters()]},
            ],
        }

    def updates(self, phase, x, y):
        yield "first", (self.first(x) - self.teacher(x)).square().mean()
        yield "second", (self.second(x) - self.backbone(x)).square().mean()

    def finish(self, batches, held=None):
        self.seen = [None if held is None else torch.cat([x for x, _ in held()])]

    def map(self, x):
        return (self.first(x) - self.teacher(x)).square()


@with_parameters
class Two(ShapedDetector):
    """A detector of nothing."""

    max_epochs: int = 4
    batch_size: int = 20
    random_state: object = 0

    def _network(self, shape):
        return TwoNetwork(shape[0])


def state(detector):
    return {k: v.numpy().copy() for k, v in detector.net_.state_dict().items()}


def assert_same(one, two):
    for name, value in one.items():
        assert_array_equal(value, two[name], err_msg=name)


class Rates(Callback):
    """Notes the learning rate of each optimizer at the end of epochs."""

    noted = []  # copies of the callback share it

    def on_epoch_begin(self, net, **parameters):
        rates = [one.param_groups[-1]["lr"] for one in net.updaters.values()]
        Rates.noted.append(rates)


@pytest.fixture
def rates():
    Rates.noted.clear()
    return Rates.noted


class Stopped(Exception):  # noqa: N818
    """Ends a fit as a power cut does."""


class Cut(Callback):
    """Ends the fit in the third epoch."""

    def on_batch_end(self, net, **parameters):
        if len(net.history) == 3:
            raise Stopped


# ---------------------------------------------------------------------------- schedules


def test_a_schedule_moves_every_optimizer(rows, rates):
    falls = LRScheduler("StepLR", step_size=1, gamma=0.1)
    Two(callbacks=[falls, Rates()]).fit(rows)
    assert_allclose(rates, [[10**-k] * 2 for k in (3, 4, 5, 6)])


@pytest.mark.parametrize(
    "schedule",
    [
        LRScheduler("CosineAnnealingLR", T_max=4),
        LRScheduler(
            torch.optim.lr_scheduler.OneCycleLR,
            max_lr=0.1,
            total_steps=12,
            step_every="batch",
        ),
        LRScheduler("ReduceLROnPlateau", patience=0, threshold=1.0),
    ],
    ids=lambda one: getattr(one.policy, "__name__", one.policy),
)
def test_a_fit_that_goes_on_goes_on_with_its_schedule(schedule, rows, rates, tmp_path):
    whole = Two(callbacks=[schedule, Rates()], lr=0.01).fit(rows)
    expected = list(rates)
    rates.clear()
    part = Two(callbacks=[schedule, Rates(), Cut()], lr=0.01, checkpoint=tmp_path)
    with pytest.raises(Stopped):
        part.fit(rows)
    part.set_params(callbacks=[schedule, Rates()]).fit(rows)
    assert rates == [*expected[:3], *expected[2:]]  # the third was begun twice
    assert len({rate for rate, _ in expected}) > 1
    assert_same(state(part), state(whole))


class Clipped(Two):
    """Brings a schedule and a clipping of its own."""

    def _own_callbacks(self, phase, n_epochs):
        return [LRScheduler("StepLR", step_size=1), GradientNormClipping(1e-12)]


def test_a_method_brings_callbacks_that_users_replace(rows, rates):
    still = Clipped(callbacks=[Rates()], optimizer="sgd").fit(rows)
    assert_allclose([one for one, _ in rates], [1e-3, 1e-4, 1e-5, 1e-6])
    start = Two(lr=1e-30, optimizer="sgd").fit(rows)
    assert_allclose(
        state(still)["first.weight"], state(start)["first.weight"], atol=1e-9
    )
    rates.clear()
    own = [LRScheduler("StepLR", step_size=2), GradientNormClipping(1e12), Rates()]
    moved = Clipped(callbacks=own, optimizer="sgd", lr=0.1).fit(rows)
    assert_allclose([one for one, _ in rates], [0.1, 0.1, 0.01, 0.01])
    assert np.ptp(state(moved)["first.weight"] - state(start)["first.weight"]) > 1e-3


def test_methods_are_told_the_epochs_that_auto_stands_for(rows):
    told = []

    class Told(Two):
        def _own_callbacks(self, phase, n_epochs):
            told.append(n_epochs)
            return ()

    Told(max_epochs="auto").fit(rows)
    assert told == [50]


def test_rates_rise_and_fall_as_those_of_cflow_do(rows, rates):
    """Against the authors' code, where ours is in its first batch of an epoch."""
    Two(callbacks=[*warm_cosine(25), Rates()], max_epochs=25, lr=2e-4).fit(rows)
    lowest = 2e-4 * 0.1**3
    fall = [
        lowest + (2e-4 - lowest) * (1 + math.cos(math.pi * epoch / 25)) / 2
        for epoch in range(25)
    ]
    rise = [2e-5, 2e-5 + (fall[2] - 2e-5) / 2]
    for found in zip(*rates, strict=True):
        assert_allclose(found, [*rise, *fall[2:]], rtol=1e-12)
    rates.clear()  # of few epochs none is for the rise
    Two(callbacks=[*warm_cosine(2), Rates()], max_epochs=2, lr=1.0).fit(rows)
    assert_allclose([one for one, _ in rates], [1, 0.5005])


class OwnRates(Two):
    """Another optimizer and learning rate for the second group."""

    def _optimizer_of(self, phase, group):
        return (
            {"optimizer": "sgd", "lr": 0.007, "momentum": 0.5}
            if group == "second"
            else {}
        )


class Optimizers(Callback):
    """Notes the optimizers."""

    noted = []

    def on_train_begin(self, net, **parameters):
        Optimizers.noted[:] = net.updaters.values()


def test_each_group_has_an_optimizer_of_its_own(rows):
    OwnRates(callbacks=[Optimizers()]).fit(rows)
    first, second = Optimizers.noted
    assert isinstance(first, torch.optim.Adam)
    assert isinstance(second, torch.optim.SGD)
    assert first.defaults["lr"] == 1e-3
    assert (second.defaults["lr"], second.defaults["momentum"]) == (0.007, 0.5)


# ----------------------------------------------------------------------------- averages


class Recorded(Callback):
    """Notes the weights of the first layer after each epoch and each batch."""

    epochs, batches = [], []

    def _weight(self, net):
        return net.module_.first.weight.detach().clone()

    def on_train_begin(self, net, **parameters):
        Recorded.epochs, Recorded.batches = [], [self._weight(net)]

    def on_batch_end(self, net, training, **parameters):
        if training:
            Recorded.batches.append(self._weight(net))

    def on_epoch_end(self, net, **parameters):
        Recorded.epochs.append(self._weight(net))


class Averaged(Two):
    """Averages its weights."""

    decay = 0.8

    def _averages(self, phase):
        return {"decay": self.decay}


class MeanOfEpochs(Averaged):
    """Takes the mean over the epochs."""

    decay = None


def test_averaged_weights_score(rows):
    detector = Averaged(callbacks=[Recorded()], lr=0.1).fit(rows)
    mean, *others = Recorded.batches
    for t, weight in enumerate(others, start=1):
        decay = min(0.8, (1 + t) / (10 + t))
        mean = decay * mean + (1 - decay) * weight
    assert_allclose(state(detector)["first.weight"], mean, rtol=1e-5)
    detector = MeanOfEpochs(callbacks=[Recorded()], lr=0.1).fit(rows)
    mean = torch.stack(Recorded.epochs).mean(0)
    assert_allclose(state(detector)["first.weight"], mean, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("kind", [Averaged, MeanOfEpochs])
@pytest.mark.parametrize("patience", [None, 3])
def test_averages_go_on(kind, patience, rows, tmp_path):
    whole = kind(patience=patience).fit(rows)
    part = kind(patience=patience, callbacks=[Cut()], checkpoint=tmp_path)
    with pytest.raises(Stopped):
        part.fit(rows)
    part.set_params(callbacks=None).fit(rows)
    assert_same(state(part), state(whole))


# ---------------------------------------------------------------------- frozen, trained


def test_frozen_parts_stay_and_are_not_saved(rows, tmp_path):
    made = Two(max_epochs=1).fit(rows)
    trained = Two(max_epochs=6, checkpoint=tmp_path, lr=0.1, weight_decay=0.5).fit(rows)
    before, after = state(made), state(trained)
    for name, value in after.items():
        if name.startswith(("teacher.", "backbone.0.")) or "running" in name:
            assert_array_equal(value, before[name], err_msg=name)
        elif name.endswith("weight"):
            assert not np.array_equal(value, before[name]), name
    saved = torch.load(tmp_path / "Two.pt", weights_only=True)
    assert {name.split(".")[0] for name in saved["network"]} == {
        "first",
        "second",
        "backbone",
    }
    assert "backbone.0.weight" not in saved["network"]
    n_second = [
        len(one["params"]) for one in saved["updaters"]["second"]["param_groups"]
    ]
    assert n_second == [2, 4]


def test_modes_of_frozen_parts():
    network = TwoNetwork(3).train()
    assert network.first.training
    assert not any(one.training for one in network.teacher.modules())
    norm, last = network.backbone[1]
    assert (norm.training, last.training) == (False, True)
    assert not network.requires_grad_(True).teacher[0].weight.requires_grad
    assert norm.weight.requires_grad


def test_all_but_the_last_stages():
    body = nn.Sequential()
    body.stem = nn.Linear(1, 1)
    body.layer1 = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1))
    body.layer2 = nn.Linear(1, 1)
    assert all_but(body, ("layer2",), "body") == ("body.stem", "body.layer1")
    assert all_but(body, ("layer1.1", "layer2")) == ("stem", "layer1.0")


# ------------------------------------------------------------------- samples of batches


def test_what_was_held_out_is_handed_to_finish(rows):
    held = Two().fit(rows).net_.seen[0]
    assert len(held) == 12
    network = Two(contamination=0.1).fit(rows).net_
    assert network.seen == [None]
    from skad._training._held_out import held_samples

    assert_array_equal(held, rows[held_samples(60, 0.2)].astype(np.float32))


@pytest.mark.parametrize("share", [0.05, 0.25, 0.9])
def test_batches_have_their_share_of_known_anomalies(share):
    x = torch.arange(50.0)
    y = torch.where(torch.arange(50) % 10 == 0, -1, torch.arange(50) % 2)
    batches = Batches(x, y, 8, torch.device("cpu"), shuffle=True, share=share)
    torch.manual_seed(0)
    found = list(batches)
    n_known = max(1, round(8 * share))
    assert [int((labels == -1).sum()) for _, labels in found] == [n_known] * len(found)
    assert len(batches) == len(found)
    assert all(len(part) in (8, 9) for part, _ in found[:-1])
    others = torch.cat([part[labels != -1] for part, labels in found])
    assert_array_equal(others.sort().values, x[y != -1])  # each of them once
    for part, labels in found:
        assert torch.equal(y[part.long()], labels)
    drawn = torch.cat([part[labels == -1] for part, labels in found])
    assert len(drawn.unique()) > 1
    torch.manual_seed(0)
    again = torch.cat([part for part, _ in batches])
    assert torch.equal(again, torch.cat([part for part, _ in found]))


def test_batches_without_known_anomalies_are_as_they_come():
    x, y = torch.arange(20.0), torch.ones(20)
    plain = Batches(x, y, 8, torch.device("cpu"), shuffle=False, share=0.5)
    assert torch.equal(torch.cat([part for part, _ in plain]), x)


class Shared(Two):
    """Wants half of each batch to be known anomalies."""

    _uses_labels = True

    def _anomaly_share(self):
        return 0.5


class Labels(Callback):
    """Notes the labels of batches."""

    noted = []

    def on_batch_begin(self, net, batch, **parameters):
        Labels.noted.append(copy.copy(batch[1]))


def test_a_detector_says_the_share(rows):
    Labels.noted.clear()
    y = np.where(np.arange(60) < 5, -1, 0)
    Shared(callbacks=[Labels()]).fit(rows, y)
    assert all((labels == -1).sum() == 10 for labels in Labels.noted)


# ---------------------------------------------------------------------------- arguments


class Asking(Network):
    """Asks for a parameter of the detector's, and for what it has none for."""

    def __init__(self, shape, lr, weight_decay, more):
        super().__init__()
        self.arguments = shape, lr, weight_decay, more


def test_arguments_are_handed_over_by_name():
    detector = Two(lr=0.5, weight_decay=0.25)
    made = from_parameters(detector, Asking, (4,), more=1)
    assert made.arguments == ((4,), 0.5, 0.25, 1)
    made = from_parameters(detector, Asking, (4,), more=1, lr=2.0)
    assert made.arguments == ((4,), 2.0, 0.25, 1)


@pytest.mark.parametrize(("n_epochs", "ends"), [(1, []), (2, [1]), (15, [5, 10])])
def test_the_first_epoch_has_the_whole_rate(n_epochs, ends):
    (schedule,) = lower_after(n_epochs, (1 / 3, 2 / 3), 0.1)
    assert schedule.kwargs["milestones"] == ends
    weight = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    schedule.policy(optimizer, **schedule.kwargs)
    assert optimizer.param_groups[0]["lr"] == 1
