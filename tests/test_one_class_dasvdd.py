"""DASVDD: its score, its steps, its weight and where its centre goes."""

import copy

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from skad.one_class import DASVDD
from skad.one_class._dasvdd import DASVDDNetwork

SMALL = {
    "latent_size": 3,
    "hidden_sizes": (7,),
    "max_epochs": 3,
    "contamination": 0.1,
    "random_state": 0,
}


@pytest.fixture(scope="module", name="X")
def rows():
    return np.random.default_rng(0).normal(size=(60, 4)) + np.arange(4)


def network(gamma=0.5, share=0.9):
    torch.manual_seed(0)
    return DASVDDNetwork((4,), 3, "auto", (7,), gamma, share).double()


def parts(net, X):
    """Return the squared errors (n, d) and squared distances (n,) of rows."""
    with torch.no_grad():
        codes = net.encoder(torch.as_tensor(X))
        rebuilt = net.decoder(codes).numpy()
        return (X - rebuilt) ** 2, ((codes - net.centre).numpy() ** 2).sum(1)


def test_score_and_map_are_their_formulas(X):
    detector = DASVDD(**SMALL).fit(X)
    net = copy.deepcopy(detector.net_).double().eval()
    errors, away = parts(net, X)
    gamma = float(net.gamma)
    assert gamma > 0
    scores = -detector.score_samples(X)
    assert_allclose(scores, errors.sum(1) + gamma * away, rtol=1e-6)
    baseline = X.mean(0, keepdims=True)
    assert_allclose(net.baseline[None], baseline, rtol=1e-5)
    maps = detector.transform(X)
    at_mean = gamma * parts(net, baseline)[1]
    assert_allclose(maps.sum(1), scores - at_mean, rtol=0.02, atol=0.02 * at_mean[0])
    assert not np.allclose(maps, errors)


def test_without_a_weight_it_is_an_autoencoder(X):
    detector = DASVDD(gamma=0, **SMALL).fit(X)
    net = copy.deepcopy(detector.net_).double().eval()
    errors, _ = parts(net, X)
    assert_allclose(-detector.score_samples(X), errors.sum(1), rtol=1e-6)
    assert_allclose(detector.transform(X), errors, rtol=1e-6)


@pytest.mark.parametrize(
    ("share", "n", "first"), [(0.9, 20, 18), (0.9, 5, 4), (0.5, 5, 3), (0.1, 4, 1)]
)
def test_steps_are_of_different_samples(X, share, n, first):
    net, x = network(share=share), torch.as_tensor(X[:n])
    steps = net.updates("fit", x, None)
    group, loss = next(steps)
    errors, away = parts(net, X[:first])
    assert group == "autoencoder"
    assert loss.item() == pytest.approx((errors.sum(1) + 0.5 * away).mean())
    loss.backward()
    assert net.centre.grad is None  # it stays
    assert all(weight.grad is not None for weight in net.groups("fit")[group])
    net.zero_grad()
    with torch.no_grad():  # what the step changed is seen
        net.encoder.layers[-1].bias += 1.0
    group, loss = next(steps)
    mean = net.encoder(x[first:]).detach().numpy().mean(0)
    centre = net.centre.detach().numpy()
    assert group == "centre"
    assert loss.item() == pytest.approx(((centre - mean) ** 2).mean())
    loss.backward()
    assert_allclose(net.centre.grad, 2 * (centre - mean) / 3)
    assert all(weight.grad is None for weight in net.encoder.parameters())
    assert next(steps, None) is None


def test_one_sample_is_the_networks_and_the_centre_s(X):
    net, x = network(), torch.as_tensor(X[:1])
    (_, loss), (_, centre) = net.updates("fit", x, None)
    errors, away = parts(net, X[:1])
    assert loss.item() == pytest.approx(errors.sum() + 0.5 * away[0])
    assert centre.item() == pytest.approx(away[0] / 3)


def test_the_weight_is_the_ratio_of_errors_at_random(X):
    net, x = network("auto"), torch.as_tensor(X)
    torch.manual_seed(5)
    with torch.no_grad():
        net.begin("fit", lambda: iter([(x[:25], None), (x[25:], None)]))
    torch.manual_seed(5)
    ratios = []
    for _ in range(10):
        encoder, decoder = (part.double().eval() for part in net.drawn())
        with torch.no_grad():
            codes = encoder(x)
            error = ((x - decoder(codes)) ** 2).sum()
        ratios.append(float(error / (codes**2).sum()))
    assert float(net.gamma) == pytest.approx(np.mean(ratios), rel=1e-5)
    assert np.std(ratios) > 0.01
    before = float(net.gamma)
    with torch.no_grad():  # a training that goes on
        net.begin("fit", lambda: iter([(9 * x, None)]))
    assert float(net.gamma) == before


def test_the_centre_goes_to_the_mean_of_codes_that_stay(X):
    """Where the networks do not learn it is the best one, and the same for all."""
    still = {**SMALL, "max_epochs": 200, "network_share": 0.5, "lr": 1e-12}
    net = DASVDD(**still).fit(X).net_.double()
    codes = net.encoder(torch.as_tensor(X)).detach()
    mean = codes.mean(0)
    spread = codes.std(0).max().item()
    assert_allclose(net.centre.detach(), mean, atol=0.3 * spread)
    first = DASVDD(**{**still, "max_epochs": 1}).fit(X).net_.centre.detach()
    assert (first - mean).abs().max() > spread


def test_codes_do_not_fall_into_the_centre():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 2)) @ rng.normal(size=(2, 6))
    detector = DASVDD(max_epochs=150, latent_size=2, random_state=0).fit(X)
    codes = detector.net_.encoder(torch.as_tensor(X, dtype=torch.float32))
    assert codes.std(0).min() > 0.03
    errors, _ = parts(copy.deepcopy(detector.net_).double(), X)
    assert errors.sum() < 0.5 * ((X - X.mean(0)) ** 2).sum()
    off = X[:50] + 2 * rng.normal(size=(50, 6))
    assert np.median(detector.decision_function(off)) < 0
    assert (detector.predict(X) == 1).mean() > 0.85


def test_pictures_and_the_optimizers():
    X = np.random.default_rng(0).uniform(size=(20, 8, 8))
    detector = DASVDD(latent_size=3, max_epochs=1, random_state=0).fit(X)
    assert detector.transform(X).shape == (20, 8, 8)
    own = detector._optimizer_of("fit", "centre")
    assert own.pop("optimizer") is torch.optim.Adagrad
    assert own == {"lr": 1.0, "lr_decay": 0.01, "weight_decay": 0.0}
    losses = {"autoencoder_loss", "centre_loss", "train_loss"}
    assert losses <= set(detector.history_[0])


def test_on_real_tables_it_is_more_than_its_network_at_random(shared):
    from sklearn.metrics import roc_auc_score

    from tests._shared import tables

    found = {"trained": [], "random": []}
    for (_, setting), train, X, y in tables(shared, 1600):
        if setting == "semi":
            for name, params in (("trained", {}), ("random", {"lr": 1e-12})):
                detector = DASVDD(contamination=0.1, random_state=0, **params)
                scores = detector.fit(train[:300]).score_samples(X)
                found[name].append(roc_auc_score(y, -scores))
    assert len(found["trained"]) >= 4
    assert np.mean(found["trained"]) > np.mean(found["random"]) + 0.03


def test_the_same_seed_gives_the_same_and_wrong_values_are_refused(X):
    one, same = (DASVDD(**SMALL).fit(X).score_samples(X) for _ in range(2))
    assert_array_equal(one, same)
    for params in ({"gamma": -1.0}, {"gamma": "mean"}, {"network_share": 1.0}):
        with pytest.raises(ValueError, match=f"The '{next(iter(params))}' parameter"):
            DASVDD(**params).fit(X)
