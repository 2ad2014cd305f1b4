"""MOCCA: the sum over layers in NumPy, and DeepSVDD where there is one layer."""

import copy

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from torch import nn

from skad.one_class import MOCCA, DeepSVDD

SMALL = {
    "latent_size": 3,
    "hidden_sizes": (7, 5),
    "max_epochs": 4,
    "contamination": 0.1,
    "random_state": 0,
}


@pytest.fixture(scope="module", name="X")
def rows():
    return np.random.default_rng(0).normal(1.0, size=(90, 4))


def layers_of(net, X):
    """Return the codes of the layers of linear layers with leaky ReLU between."""
    found, weights = [], [one.detach().numpy() for one in net.encoder.parameters()]
    for i, weight in enumerate(weights):
        X = X @ weight.T
        if i < len(weights) - 1:
            X = np.where(X > 0, X, 0.1 * X)
        found.append(X)
    return found


def network(detector):
    return copy.deepcopy(detector.net_).double()


@pytest.mark.parametrize("objective", ["one-class", "soft-boundary"])
def test_the_last_layer_alone_is_deep_svdd(X, objective):
    own = {**SMALL, "objective": objective, "n_warm_up_epochs": 2, "lr": 0.01}
    one = MOCCA(layers=(-1,), weight_decay=1e-6, **own).fit(X)
    other = DeepSVDD(**own).fit(X)
    assert_array_equal(one.net_.centre, other.net_.centre)
    assert [row["train_loss"] for row in one.history_] == [
        row["train_loss"] for row in other.history_
    ]
    radius = float(one.net_.radius) if objective == "soft-boundary" else 0
    found = radius**2 - one.score_samples(X)
    assert_allclose(found, -other.score_samples(X), rtol=1e-6)


@pytest.mark.parametrize("objective", ["one-class", "soft-boundary"])
@pytest.mark.parametrize("layers", ["all", (0, -1), [1]])
def test_loss_and_anomaly_are_sums_over_layers(X, layers, objective):
    detector = MOCCA(layers=layers, objective=objective, nu=0.3, **SMALL).fit(X)
    net = network(detector)
    codes = layers_of(net, X)
    codes = codes if layers == "all" else [codes[i] for i in layers]
    centres = np.split(net.centre.numpy(), np.cumsum([c.shape[1] for c in codes])[:-1])
    d = np.array(
        [((z - c) ** 2).sum(axis=1) for z, c in zip(codes, centres, strict=True)]
    )
    if objective == "one-class":
        anomaly, loss = d.mean(axis=0), d.mean(axis=1).sum()
    else:
        R = net.radius.numpy()
        assert_allclose(R, np.quantile(np.sqrt(d), 0.7, axis=1), rtol=1e-5)
        anomaly = (d - R[:, None] ** 2).mean(axis=0)
        beyond = np.maximum(0, d - R[:, None] ** 2).mean(axis=1) / 0.3
        loss = (R**2 + beyond).sum()
    assert_allclose(-detector.score_samples(X), anomaly, rtol=1e-6)
    assert float(net.loss(torch.as_tensor(X), None)) == pytest.approx(loss)


def test_centres_are_the_mean_codes_before_training(X):
    detector = MOCCA(**{**SMALL, "lr": 1e-30}).fit(X)
    mean = np.concatenate(layers_of(network(detector), X), axis=1).mean(axis=0)
    expected = np.where(np.abs(mean) < 0.1, np.where(mean < 0, -0.1, 0.1), mean)
    assert_allclose(detector.net_.centre, expected, rtol=1e-5)


def test_convolutions_have_the_mean_of_each_channel_as_codes():
    X = np.random.default_rng(0).uniform(size=(20, 9, 8))
    own = {**SMALL, "hidden_sizes": (2, 4)}
    net = network(MOCCA(**own).fit(X)).eval()
    x = torch.as_tensor(X)[:, None]
    assert net.sizes == [2, 4, 3]
    (down, *rest), found, code = net.encoder.parts, [], x
    for layer in down.layers:
        code = layer(code)
        if isinstance(layer, nn.LeakyReLU):
            found.append(code.mean((2, 3)))
    for part in rest:
        code = part(code)
    assert_allclose(net.codes(x).detach(), torch.cat([*found, code], 1).detach())


def test_an_encoder_that_hides_its_layers_has_one(X):
    def hidden(input_shape, output_shape, bias=True):
        return nn.Sequential(nn.Linear(*input_shape, *output_shape, bias=bias))

    own = {**SMALL, "hidden_sizes": None, "architecture": hidden}
    assert MOCCA(**own).fit(X).net_.sizes == [3]
    with pytest.raises(ValueError, match=r"layers=\(0, 3\).*from 0 to 2"):
        MOCCA(layers=(0, 3), **SMALL).fit(X)
