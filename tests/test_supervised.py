"""Networks that learn from few known anomalies: formulas, pairs, labels."""

import copy
import itertools

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.metrics import roc_auc_score

import skad
from skad.nn.losses import deviation_loss
from skad.supervised import DevNet, FeaWAD, PReNet, RoSAS
from skad.supervised._prenet import draw_pairs
from skad.supervised._rosas import consistency, draw_triplets

ALL = [DevNet, FeaWAD, PReNet, RoSAS]
every = pytest.mark.parametrize("method", ALL, ids=lambda cls: cls.__name__)
SMALL = {"max_epochs": 20, "hidden_sizes": (16,), "random_state": 0}


def rows(n=300, n_known=10, d=6, seed=0):
    """Return training rows with few known anomalies, test rows and where these are."""
    rng = np.random.default_rng(seed)
    far = np.r_[np.full(d // 2, 1.8), np.zeros(d - d // 2)]
    X = np.concatenate([rng.normal(size=(n, d)), rng.normal(far, 1, (n_known, d))])
    y = np.repeat([0, -1], [n, n_known])
    new = np.concatenate([rng.normal(size=(400, d)), rng.normal(far, 1, (100, d))])
    return X, y, new, np.repeat([0, 1], [400, 100])


@pytest.fixture(scope="module")
def data():
    return rows()


@pytest.fixture(scope="module")
def fitted(data):
    X, y, *_ = data
    small = {FeaWAD: {"pretrain_epochs": 5, "lr": 1e-3}}
    return {cls: cls(**SMALL, **small.get(cls, {})).fit(X, y) for cls in ALL}


# ----------------------------------------------------------------------- what all share


@every
def test_few_labels_are_worth_more_than_none(method, data, fitted):
    *_, new, is_anomaly = data
    found = roc_auc_score(is_anomaly, -fitted[method].score_samples(new))
    X = data[0]
    alone = roc_auc_score(is_anomaly, -skad.KNN().fit(X).score_samples(new))
    assert found > 0.95 > alone + 0.02


@every
def test_the_map_sums_to_what_is_more_than_the_mean_sample_has(method, data, fitted):
    detector, new = fitted[method], data[2][:50]
    mean = detector.net_.baseline.double().numpy()[None]
    parts = detector.transform(new).sum(axis=1)
    more = detector.score_samples(mean) - detector.score_samples(new)
    assert_allclose(parts, more, atol=0.05 * np.ptp(more))


@every
def test_the_mean_sample_holds_no_known_anomaly(method, data, fitted):
    X, y, *_ = data
    assert fitted[method].n_held_out_ > 0
    found = method(**{**SMALL, "max_epochs": 1}, contamination=0.1).fit(X, y)
    assert_allclose(found.net_.baseline, X[y != -1].mean(axis=0), atol=1e-6)


@every
def test_labels_1_and_0_are_the_same(method, data):
    X, y, new, _ = data
    brief = method(**{**SMALL, "max_epochs": 2})
    unlabelled = brief.fit(X, y).score_samples(new)
    normal = brief.fit(X, np.where(y == -1, -1, 1)).score_samples(new)
    assert_array_equal(unlabelled, normal)


@every
def test_outliers_are_rows_labelled_as_anomalies(method, data):
    X, y, new, _ = data
    brief = method(**{**SMALL, "max_epochs": 2})
    joined = brief.fit(X, y).score_samples(new)
    apart = brief.fit(X[y == 0], X_outliers=X[y == -1]).score_samples(new)
    assert_array_equal(joined, apart)


@every
@pytest.mark.parametrize("label", [None, 0, 1])
def test_without_a_known_anomaly_it_says_what_to_write(method, label, data):
    X = data[0]
    y = None if label is None else np.full(len(X), label)
    with pytest.raises(ValueError, match=r"got 0 of \d: fit\(X, y\) with y = -1"):
        method(**SMALL).fit(X, y)


@every
def test_known_anomalies_alone_teach_nothing(method, data):
    with pytest.raises(ValueError, match="y is -1 for all samples"):
        method(**SMALL).fit(data[0], np.full(len(data[0]), -1))


@every
def test_patience_has_nothing_to_watch(method, data):
    X, y, *_ = data
    found = method(**{**SMALL, "max_epochs": 4}, patience=1).fit(X, y)
    assert sum(one["phase"] == "fit" for one in found.history_) == 4


@every
def test_the_threshold_is_that_of_samples_without_label(method, data, fitted):
    X = data[0]
    normal = np.random.default_rng(7).normal(size=(2000, X.shape[1]))
    assert 0.01 < (fitted[method].predict(normal) == -1).mean() < 0.15


@every
def test_few_samples_are_cross_fitted_with_all_known_anomalies(method):
    X, y, new, _ = rows(n=9, n_known=3)
    detector = method(**{**SMALL, "max_epochs": 3}).fit(X, y)
    assert detector.n_held_out_ == 0
    assert np.all(np.isfinite(detector.score_samples(new)))


@every
def test_pictures_are_taken_too(method):
    rng = np.random.default_rng(0)
    X = rng.normal(0.5, 0.05, size=(40, 16, 16))
    X[:8, 4:10, 4:10] += 0.3
    y = np.repeat([-1, 0], [8, 32])
    detector = method(max_epochs=8, hidden_sizes=(8,), random_state=0).fit(X, y)
    maps = detector.transform(X[:8])
    assert maps.shape == (8, 16, 16)
    if method is DevNet:
        assert maps[:, 4:10, 4:10].mean() > 2 * np.abs(maps[:, 11:, 11:]).mean()


# ---------------------------------------------------------------------------- formulas


def test_deviation_loss_is_the_formula():
    score = torch.tensor([0.0, -2.0, 3.0, 5.0, 7.0])
    known = torch.tensor([False, False, True, True, True])
    assert deviation_loss(score, known, 5.0) == pytest.approx((0 + 2 + 2 + 0 + 0) / 5)


def test_devnet_is_its_loss(fitted, data):
    X, y, *_ = data
    net, x = fitted[DevNet].net_.double(), torch.as_tensor(X)
    first, _, last = net.scorer.layers
    hidden = torch.nn.functional.leaky_relu(x @ first.weight.T + first.bias, 0.1)
    score = (hidden @ last.weight.T + last.bias)[:, 0]
    assert_allclose(-fitted[DevNet].score_samples(X), score)
    parts = np.where(y == -1, np.maximum(0, 5 - score), np.abs(score))
    expected = parts.mean() + 0.01 * float(first.weight.square().sum())
    assert_allclose(float(net.loss(x, torch.as_tensor(y))), expected)


def test_prenet_is_the_mean_over_all_partners(data):
    X, y, new, _ = data
    detector = PReNet(**SMALL, contamination=0.1).fit(X, y)  # all rows are trained on
    net = detector.net_.double()

    def relation(one, other):
        one, other = (torch.as_tensor(rows)[None] for rows in (one, other))
        return float(net.relation(net.codes(one), net.codes(other)))

    for x in new[::100]:
        others = np.mean([relation(u, x) for u in X[y != -1]])
        known = np.mean([relation(x, a) for a in X[y == -1]])
        found = -detector.score_samples(x[None])[0]
        assert found == pytest.approx((others + known) / 2, rel=1e-5)


def test_partners_change_no_order(fitted, data):
    net, new = fitted[PReNet].net_.double(), torch.as_tensor(data[2])
    weights = net.first.weight + net.second.weight
    expected = (net.codes(new) @ weights.T)[:, 0]
    found = -fitted[PReNet].score_samples(data[2])
    assert_allclose(found - found[0], (expected - expected[0]) / 2, atol=1e-9)


def test_pairs_are_of_three_kinds():
    torch.manual_seed(0)
    y = torch.tensor([0] * 6 + [-1] * 6)
    first, second, targets = draw_pairs(y)
    assert_array_equal(targets, [0] * 6 + [4] * 3 + [8] * 3)
    kinds = 4.0 * ((y[first] == -1).int() + (y[second] == -1).int())
    assert_array_equal(kinds, targets)
    assert torch.all(y[first][targets == 4] == 0)  # an anomaly is never first


def test_prenet_needs_two_known_anomalies(data):
    X, y, *_ = data
    one = np.where(np.arange(len(y)) == len(y) - 1, -1, 0)
    with pytest.raises(ValueError, match="got 1 of 2"):
        PReNet(**SMALL).fit(X, one)


def test_feawad_is_its_formula(fitted, data):
    net, x = fitted[FeaWAD].net_.double(), torch.as_tensor(data[2][:5])
    code = net.encoder(x)
    residual = x - net.decoder(code)
    length = residual.norm(dim=1, keepdim=True)
    h = torch.cat([residual / length, code], 1)
    for i, layer in enumerate(net.scorer.layers):
        h = torch.cat([h.relu() if i else h, length], 1) @ layer.weight.T + layer.bias
    found = -fitted[FeaWAD].score_samples(data[2][:5])
    assert_allclose(found, h[:, 0], rtol=1e-6)


@pytest.mark.parametrize(("label", "sign"), [(0, 1.0), (-1, -1.0)])
def test_feawad_moves_the_length_of_residuals(fitted, label, sign):
    """The authors' code divides by the length first: its gradient there is 0."""
    net = copy.deepcopy(fitted[FeaWAD].net_).double()
    length = torch.tensor([2.0], requires_grad=True)
    deviation_loss(length, torch.tensor([label == -1]), net.margin).backward()
    assert length.grad.item() == sign
    x = torch.randn(1, 6, dtype=torch.float64, generator=torch.manual_seed(0))
    with torch.enable_grad():
        net.requires_grad_(True)
        _, lengths = net.described(x)
        (gradient,) = torch.autograd.grad(lengths.sum(), net.decoder.layers[-1].bias)
    assert gradient.abs().max() > 1e-3


def test_feawad_bears_what_it_rebuilds_exactly(fitted):
    net = copy.deepcopy(fitted[FeaWAD].net_).double()
    for weights in net.decoder.parameters():
        weights.data.zero_()
    assert torch.isfinite(net.anomaly(torch.zeros(1, 6, dtype=torch.float64))).all()


def test_rosas_mixes_by_the_share():
    first, second = torch.tensor([2.0, 0.5]), torch.tensor([-2.0, 1.5])
    share = torch.tensor([0.25, 1.0])
    mixed = share * first + (1 - share) * second
    assert consistency(mixed, first, second, share) == 0
    assert consistency(mixed + 0.5, first, second, share) == pytest.approx(0.125)


def test_rosas_triplets_end_with_an_anomaly():
    torch.manual_seed(0)
    y = torch.tensor([0, -1, 1, 0, -1, 0])
    anchors, others, known = draw_triplets(y)
    assert sorted(anchors) == sorted(others) == [0, 2, 3, 5]
    assert len(known) == 4
    assert torch.all(y[known] == -1)


def test_rosas_weighs_the_loss_that_falls_more_slowly(fitted, data):
    X, y, *_ = data
    net = copy.deepcopy(fitted[RoSAS].net_).double()
    x, labels = torch.as_tensor(X[-60:]), torch.as_tensor(y[-60:])
    torch.manual_seed(0)
    parts = net.parts(x, labels)
    for before in itertools.product([0.5, 1.0], repeat=2):
        net.before.copy_(torch.tensor(before))
        torch.manual_seed(0)
        ratios = np.array([float(p) / b for p, b in zip(parts, before, strict=True)])
        weights = np.exp(ratios / 2) / np.exp(ratios / 2).sum()
        expected = 2 * sum(w * float(p) for w, p in zip(weights, parts, strict=True))
        assert float(net.loss(x, labels)) == pytest.approx(expected)


def test_rosas_ranks_before_the_tangent(fitted, data):
    X = 50 * data[2]
    assert len(np.unique(fitted[RoSAS].score_samples(X))) == len(X)
