"""Classifiers that are trained to know what they have not seen."""

import pickle

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import log_softmax, softmax
from sklearn import config_context
from sklearn.base import clone
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV, StratifiedKFold

from skad.ood import Energy, GeneralizedODIN, OutlierExposure
from skad.ood._generalized_odin import HEADS, GeneralizedODINNetwork
from skad.ood._outlier_exposure import OutlierExposureNetwork

SMALL = {
    "max_epochs": 20,
    "batch_size": 32,
    "hidden_sizes": (16,),
    "lr": 0.01,
    "random_state": 0,
}
CENTRES = np.array([[4.0, 0, 0], [0, 4.0, 0], [0, 0, 4.0]])


def make(n=180):
    """Return rows around three centres, their classes, and rows of no class."""
    rng = np.random.default_rng(0)
    y = np.arange(n) % 3
    X = CENTRES[y] + rng.normal(0, 0.7, size=(n, 3))
    return X, y, rng.normal(0, 0.7, size=(n // 3, 3)) - 3


@pytest.fixture(scope="module")
def data():
    X, y, outliers = make()
    both = np.concatenate([X, outliers])
    mark = np.repeat([1, -1], [len(X), len(outliers)])
    return both, np.r_[y, [0] * len(outliers)], mark


@pytest.fixture(scope="module")
def exposed(data):
    X, y, mark = data
    return OutlierExposure(**SMALL).fit(X, y, y_ood=mark)


@pytest.fixture(scope="module", params=sorted(HEADS))
def odin(request, data):
    X, y, mark = data
    detector = GeneralizedODIN(head=request.param, latent_size=8, **SMALL)
    return detector.fit(X, y, y_ood=mark)


# -------------------------------------------------------------------- outlier exposure


def test_the_loss_is_cross_entropy_and_its_mean_over_classes():
    torch.manual_seed(0)
    network = OutlierExposureNetwork((3,), 4, "mlp", (5,), 0.5, "max_softmax")
    network.requires_grad_(False)
    x, y = torch.randn(7, 3), torch.tensor([0, 3, -1, 2, -1, 1, 1])
    log_p = log_softmax(network(x).numpy().astype(float), axis=1)
    inside, outside = y.numpy() >= 0, y.numpy() < 0
    own = -log_p[inside, y.numpy()[inside]].mean()
    uniform = -log_p[outside].mean(axis=1).mean()
    assert float(network.loss(x, y)) == pytest.approx(own + 0.5 * uniform, rel=1e-5)
    for part, expected in ((inside, own), (outside, 0.5 * uniform)):
        found = float(network.loss(x[part], y[part]))
        assert found == pytest.approx(expected, rel=1e-5)


def test_scores_are_those_of_its_logits(data, exposed):
    X, y, mark = data
    z = exposed.net_.double()(torch.as_tensor(X)).detach().numpy()
    assert_allclose(exposed.score_samples(X), softmax(z, 1).max(1), rtol=1e-9)
    other = clone(exposed).set_params(measure="cross_entropy").fit(X, y, y_ood=mark)
    expected = z.mean(1) - np.log(np.exp(z).sum(1))
    assert_allclose(-other.score_samples(X), expected, rtol=1e-5)
    # of the uniform distribution, the most that there is
    assert (-other.score_samples(X)).max() <= -np.log(3) + 1e-12


def test_outliers_are_learned_from(data, exposed):
    X, y, mark = data
    inside = mark == 1
    with pytest.warns(UserWarning, match="No outlier is marked"):
        plain = clone(exposed).fit(X[inside], y[inside])
    unsure = softmax(np.zeros((1, 3)), axis=1).max()
    found = exposed.score_samples(X[~inside])
    assert np.median(found) < unsure + 0.05 < np.median(plain.score_samples(X[~inside]))
    assert roc_auc_score(mark, exposed.score_samples(X)) > 0.99
    shared = clone(exposed).set_params(contamination=0.1).fit(X, y, y_ood=mark)
    threshold = np.quantile(shared.score_samples(X[inside]), 0.1)
    assert shared.offset_ == pytest.approx(threshold, rel=1e-12)
    # their labels are not looked at, and they come in either way
    names = np.where(inside, np.array(["a", "b", "c"])[y], "whatever")
    again = clone(exposed).fit(X, mark, y_class=names)
    assert_array_equal(again.score_samples(X), exposed.score_samples(X))
    assert_array_equal(again.classes_, ["a", "b", "c"])


def test_without_weight_outliers_change_nothing_but_the_batches(data):
    X, y, mark = data
    settings = {**SMALL, "outlier_weight": 0.0, "max_epochs": 5, "weight_decay": 0.0}
    first = OutlierExposure(**settings).fit(X, y, y_ood=mark)
    moved = np.where(mark[:, None] == 1, X, X + 1)
    second = OutlierExposure(**settings).fit(moved, y, y_ood=mark)
    assert_allclose(first.score_samples(X), second.score_samples(X), rtol=1e-5)


# ------------------------------------------------------------------- generalized ODIN


@pytest.mark.parametrize("head", sorted(HEADS))
def test_heads_by_hand(head):
    torch.manual_seed(0)
    network = GeneralizedODINNetwork((3,), 4, "mlp", (6,), 5, head).double().eval()
    x = torch.randn(7, 3, dtype=torch.float64)
    f = network.body(x).detach().numpy()
    W = network.head.weight.detach().numpy()
    lengths = np.linalg.norm(f, axis=1)[:, None] + 1e-4, np.linalg.norm(W, axis=1)
    expected = {
        "inner": f @ W.T,
        "euclidean": -((f[:, None] - W) ** 2).mean(2),
        "cosine": (f / lengths[0]) @ (W / (lengths[1] + 1e-4)[:, None]).T,
    }[head]
    if head == "inner":
        with torch.no_grad():
            network.head.bias += 0.25
        expected = expected + 0.25
    assert_allclose(network.head(network.body(x)).detach(), expected, rtol=1e-9)
    linear, norm = network.divisor[0], network.divisor[1]
    with torch.no_grad():
        norm.running_mean += 0.3
        norm.running_var *= 2
    g = f @ linear.weight.detach().numpy()[0] + linear.bias.item()
    g = 1 / (1 + np.exp(-(g - 0.3) / np.sqrt(2 + norm.eps)))
    assert_allclose(network(x).detach(), expected / g[:, None], rtol=1e-9)
    assert_allclose(network.anomaly(x).detach(), -expected.max(1), rtol=1e-9)


def test_the_loss_of_euclidean_heads_leaves_distances_free():
    """What moves features away from all vectors alike changes no difference of h."""
    torch.manual_seed(0)
    head = HEADS["euclidean"](8, 3)
    f = torch.randn(5, 8)
    spread = (head.weight[1:] - head.weight[0]).detach()
    away = torch.linalg.svd(spread).Vh[2:].sum(0)  # across the differences of vectors
    near, far = head(f).detach(), head(f + 50 * away).detach()
    assert_allclose(far.log_softmax(1), near.log_softmax(1), rtol=1e-3, atol=1e-3)
    assert (far.amax(1) < near.amax(1) - 100).all()


def test_weights_of_the_head_do_not_decay():
    network = GeneralizedODINNetwork((3,), 4, "mlp", (6,), 5, "inner")
    [groups] = network.groups("fit").values()
    free = {
        id(p)
        for part in groups
        if part.get("weight_decay") == 0
        for p in part["params"]
    }
    assert free == {id(p) for p in network.head.parameters()}
    given = [id(p) for part in groups for p in part["params"]]
    assert sorted(given) == sorted(id(p) for p in network.parameters())
    # a decay that leaves nothing of the others
    X, y, _ = make(60)
    strong = GeneralizedODIN(
        **SMALL, head="inner", epsilon=0.0, weight_decay=100.0, optimizer="adamw"
    ).fit(X, y)
    body = max(float(p.abs().max()) for p in strong.net_.body.parameters())
    assert body < 0.05 < float(strong.net_.head.weight.abs().max())


def test_the_step_raises_the_confidence(data, odin):
    """By the sign of finite differences, element by element."""
    X = data[0][::7]
    network, epsilon = odin.net_.double(), 0.02

    def confidence(rows):
        return network.confidence(torch.as_tensor(rows)).detach().numpy()

    step = np.zeros_like(X)
    for j in range(X.shape[1]):
        bump = 1e-6 * (np.arange(X.shape[1]) == j)
        step[:, j] = np.sign(confidence(X + bump) - confidence(X - bump))
    expected = -confidence(X + epsilon * step)
    found = network.anomaly(torch.as_tensor(X), epsilon).detach().numpy()
    assert np.isclose(found, expected, rtol=1e-9).mean() > 0.95
    assert (found <= -confidence(X) + 1e-3 * np.abs(found)).mean() > 0.9


def test_the_best_step_is_chosen_on_held_out_rows(data, odin):
    X, y, mark = data
    X, y = X[mark == 1], y[mark == 1]
    held = odin._held_out(y)
    assert held.sum() == round(0.1 * len(X))
    means = {}
    for epsilon in odin.epsilon:
        one = clone(odin).set_params(epsilon=epsilon).fit(X[~held], y[~held])
        assert one.epsilon_ == epsilon
        means[epsilon] = one.score_samples(X[held]).mean()
    assert odin.epsilon_ == max(means, key=means.get)
    with pytest.raises(ValueError, match="leaves a class without"):
        clone(odin).fit(X[:3], y[:3])
    with pytest.raises(ValueError, match="epsilon"):
        clone(odin).set_params(epsilon=(0.1, -1)).fit(X, y)


def test_outliers_are_told_apart_without_any(data, odin):
    X, y, mark = data
    if odin.head != "euclidean":  # its loss leaves the distances free
        assert roc_auc_score(mark, odin.score_samples(X)) > 0.8
    inside = mark == 1
    alone = clone(odin).fit(X[inside], y[inside])  # they were left out
    assert_array_equal(alone.score_samples(X), odin.score_samples(X))


# ------------------------------------------------------------------------------ common


@pytest.mark.parametrize("method", [OutlierExposure, GeneralizedODIN])
def test_classifiers_and_detectors_at_once(method, data):
    X, y, mark = data
    names = np.array(["nil", "one", "two"])[y]
    numbers = np.random.get_state()[1].copy()  # noqa: NPY002
    state = torch.get_rng_state()
    detector = method(**SMALL).fit(X, names, y_ood=mark)
    assert_array_equal(np.random.get_state()[1], numbers)  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), state)
    found = detector.predict_with_rejection(X, reject="new")
    inside = detector.predict(X) == 1
    assert_array_equal(found == "new", ~inside)
    assert (found[inside] == names[inside]).mean() > 0.95
    with pytest.raises(ValueError, match="'one' is one of the classes"):
        detector.predict_with_rejection(X, reject="one")
    plain = method(**SMALL).fit(X, y + 5, y_ood=mark)
    assert_array_equal(plain.score_samples(X), detector.score_samples(X))
    assert_array_equal(plain.predict_with_rejection(X[:9]) == -1, ~inside[:9])
    copied = pickle.loads(pickle.dumps(detector))
    assert_array_equal(copied.score_samples(X), detector.score_samples(X))
    rows = np.concatenate([detector.score_samples(row[None]) for row in X[:20]])
    assert_allclose(rows, detector.score_samples(X)[:20], rtol=1e-7)
    tensor = detector.score_samples(torch.as_tensor(X))
    assert isinstance(tensor, torch.Tensor)
    assert_allclose(tensor, detector.score_samples(X), rtol=1e-9)
    single = detector.score_samples(X.astype(np.float32))
    assert_allclose(single, detector.score_samples(X), rtol=1e-3, atol=1e-3)
    # its network is a classifier to the others
    energy = Energy(detector.net_).fit(X, y, y_ood=mark)
    assert np.isfinite(energy.score_samples(X)).all()
    for missing in ({}, {"y": np.zeros(len(X))}):
        with pytest.raises(ValueError, match=r"requires y to be passed|has 1 class"):
            method(**SMALL).fit(X, **missing)


@pytest.mark.parametrize("method", [OutlierExposure, GeneralizedODIN])
def test_maps(method, data):
    X, y, mark = data
    odd = X[mark == -1][:20]
    detector = method(**SMALL).fit(X, y, y_ood=mark)
    maps = detector.transform(odd)
    assert maps.shape == odd.shape
    median = np.median(X[mark == 1], axis=0)
    gap = detector.score_samples(median[None]) - detector.score_samples(odd)
    assert np.median(np.abs(maps.sum(1) - gap)) < 0.15 * np.ptp(
        -detector.score_samples(X)
    )
    ablation = method(attribution="ablation", **SMALL).fit(X, y, y_ood=mark)
    without = odd.copy()
    without[:, 1] = median[1]
    lost = ablation.score_samples(without) - ablation.score_samples(odd)
    assert_allclose(ablation.transform(odd)[:, 1], lost, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("method", [OutlierExposure, GeneralizedODIN])
def test_pictures(method):
    rng = np.random.default_rng(0)
    X = rng.uniform(size=(40, 8, 8)) * 0.1
    y = np.arange(40) % 2
    X[y == 0, :4] += 0.5
    X[y == 1, 4:] += 0.5
    settings = {**SMALL, "hidden_sizes": (4, 8), "max_epochs": 30}
    mark = np.r_[[1] * 36, [-1] * 4]
    detector = method(**settings).fit(X, y, y_ood=mark)
    assert detector.transform(X[:3]).shape == (3, 8, 8)
    rows = method(image_shape=(8, 8), **settings)
    rows.fit(X.reshape(40, 64), y, y_ood=mark)
    assert_array_equal(rows.score_samples(X.reshape(40, 64)), detector.score_samples(X))
    known = detector.predict_with_rejection(X[:36])
    assert ((known == y[:36]) | (known == -1)).mean() > 0.9


def test_warm_start_goes_on_with_the_classes(data):
    X, y, mark = data
    detector = GeneralizedODIN(**{**SMALL, "max_epochs": 2}, warm_start=True)
    detector.fit(X, y, y_ood=mark)
    detector.fit(X[y != 1], y[y != 1])
    assert_array_equal(detector.classes_, [0, 1, 2])
    assert len(detector.history_) == 4
    with pytest.raises(ValueError, match="y has the class 7"):
        detector.fit(X, np.full(len(X), 7))


def test_search_by_roc_auc_with_known_outliers(data):
    X, y, mark = data
    with config_context(enable_metadata_routing=True):
        detector = OutlierExposure(**{**SMALL, "max_epochs": 5})
        search = GridSearchCV(
            detector.set_fit_request(y_class=True),
            {"outlier_weight": [0.1, 0.5]},
            scoring="roc_auc",
            cv=StratifiedKFold(2, shuffle=True, random_state=0),
            error_score="raise",
        ).fit(X, mark, y_class=y)
    assert search.best_score_ > 0.9
