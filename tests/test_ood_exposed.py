"""Losses inside and outside of the distribution, against formulas and closed cases."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax
from scipy.stats import dirichlet
from sklearn.base import clone
from sklearn.ensemble import RandomForestClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.svm import LinearSVC
from torch.nn import functional

import skad.ood
from skad.nn.dirichlet import (
    COSTS,
    dirichlet_divergence,
    expected_square,
    mutual_information,
)
from skad.ood import (
    ACET,
    EDL,
    OECC,
    VOS,
    ConfidentClassifier,
    DirichletPrior,
    LearnedConfidence,
    OutlierExposure,
    SoftLabeling,
)
from skad.ood._acet import ACETNetwork, blurred, log_confidence, permuted
from skad.ood._confident_classifier import ConfidentClassifierNetwork
from skad.ood._dirichlet_prior import DirichletPriorNetwork
from skad.ood._edl import EDLNetwork
from skad.ood._exposed_classifier import ExposedClassifier, ExposedNetwork
from skad.ood._learned_confidence import LearnedConfidenceNetwork
from skad.ood._logit_norm import LogitNormNetwork
from skad.ood._oecc import OECCNetwork
from skad.ood._outliers import OutlierLabelsMixin
from skad.ood._soft_labeling import SoftLabelingNetwork, soft_labels
from skad.ood._trained import TrainedClassifier
from skad.ood._vos import VOSNetwork
from tests.test_ood_trained import SMALL, make

SHAPE = (3,), 4, "mlp", (5,)
CHEAP = {"ACET": {"n_steps": 2}, "VOS": {"n_draws": 200, "pretrain_epochs": 5}}
TRAINED = [getattr(skad.ood, name) for name in skad.ood.__all__]
TRAINED = [
    found
    for found in TRAINED
    if isinstance(found, type) and issubclass(found, TrainedClassifier)
]
EXPOSED = [found for found in TRAINED if issubclass(found, ExposedClassifier)]


def small(method, **settings):
    return method(**{**SMALL, **CHEAP.get(method.__name__, {}), **settings})


@pytest.fixture(scope="module")
def data():
    X, y, outliers = make()
    both = np.concatenate([X, outliers])
    mark = np.repeat([1, -1], [len(X), len(outliers)])
    return both, np.r_[y, [0] * len(outliers)], mark


@pytest.fixture
def batch():
    torch.manual_seed(0)
    return torch.randn(7, 3), torch.tensor([0, 3, -1, 2, -1, 1, 1])


def logits(network, x):
    return network(x).detach().numpy().astype(float)


# ------------------------------------------------------------- what they share


def test_the_base_is_a_plain_classifier(batch):
    x, y = batch
    network = ExposedNetwork(*SHAPE)
    known = y >= 0
    expected = functional.cross_entropy(network(x[known]), y[known])
    assert float(network.loss(x, y)) == pytest.approx(float(expected), rel=1e-6)
    p = softmax(logits(network, x), axis=1)
    assert_allclose(network.anomaly(x).detach(), -p.max(1), rtol=1e-5)


def test_outsiders_take_the_place_of_given_rows(batch):
    x, y = batch
    inside, made = y[y >= 0], torch.randn(5, 3)

    class Made(ExposedNetwork):
        outlier_weight = 0.3

        def outsiders(self, x):
            return made

        def outside(self, z):
            return z.square().sum(1)

    network = Made(*SHAPE)
    expected = functional.cross_entropy(network(x[y >= 0]), inside)
    expected = expected + 0.3 * network(made).square().sum(1).mean()
    found = float(network.loss(x, y))
    assert found == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("method", TRAINED, ids=lambda method: method.__name__)
def test_all_classify_and_judge(method, data):
    """And their network is a classifier to the detectors around one."""
    X, y, mark = data
    detector = small(method).fit(X, y, y_ood=mark)
    inside = mark == 1
    plain = clone(detector)
    if method in EXPOSED:
        with pytest.warns(UserWarning, match="No outlier is marked"):
            plain.fit(X[inside], y[inside])
    else:
        plain.fit(X[inside], y[inside])
    if not issubclass(method, OutlierLabelsMixin):  # they leave known outliers out
        assert_array_equal(plain.score_samples(X), detector.score_samples(X))
    found = detector.predict_with_rejection(X[inside], reject=-1)
    assert (found[found >= 0] == y[inside][found >= 0]).mean() > 0.95
    assert (found == -1).mean() < 0.2
    assert np.isfinite(detector.transform(X[:3])).all()
    around = skad.ood.MahalanobisOOD(detector.net_, normalize=True)
    around.fit(X[inside], y[inside])
    assert roc_auc_score(mark, around.score_samples(X)) > 0.8


@pytest.mark.parametrize("method", EXPOSED, ids=lambda method: method.__name__)
def test_those_that_learn_from_outliers_tell_them(method, data):
    X, y, mark = data
    detector = small(method).fit(X, y, y_ood=mark)
    assert roc_auc_score(mark, detector.score_samples(X)) > 0.97


# ------------------------------------------------------------- LogitNorm


def test_logit_norm_does_not_see_the_size_of_logits():
    network = LogitNormNetwork(*SHAPE, 0.04)
    torch.manual_seed(0)
    z, y = torch.randn(6, 4).double(), torch.tensor([0, 1, 2, 3, 0, 1])
    unit = z.numpy() / np.linalg.norm(z.numpy(), axis=1, keepdims=True) / 0.04
    expected = -log_softmax(unit, axis=1)[range(6), y]
    assert_allclose(network.inside(z, y), expected, rtol=1e-5)
    assert_allclose(network.inside(1e3 * z, y), expected, rtol=1e-5)
    network.temperature = 1e9
    assert_allclose(network.inside(z, y), np.log(4), rtol=1e-6)


# ------------------------------------------------------------- SoftLabeling


def test_soft_labels_ask_something_of_all_classes():
    codes = torch.tensor([0, 2])
    p = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.6, 0.3]])
    s, third = 0.3, 0.3 / 3
    found = soft_labels(codes, 3, s)
    assert_allclose(found, [[0.7 + third, third, third], [third, third, 0.7 + third]])
    # a teacher's, whose share of the class is .7 + .3 * .5 and .7 + .3 * .3
    found = soft_labels(codes, 3, s, p, "teacher")
    assert_allclose(found, [[0.85, 0.09, 0.06], [0.03, 0.18, 0.79]], rtol=1e-6)
    found = soft_labels(codes, 3, s, p, "uniform")
    expected = [[0.85, 0.075, 0.075], [0.105, 0.105, 0.79]]
    assert_allclose(found, expected, rtol=1e-6)
    found = soft_labels(codes, 3, s, p, "zero")
    assert_allclose(found, [[0.85, 0, 0], [0, 0, 0.79]], rtol=1e-6)
    assert_allclose(soft_labels(codes, 3, 0.0, p, "teacher"), [[1, 0, 0], [0, 0, 1]])


def test_soft_labels_are_what_the_loss_looks_at():
    torch.manual_seed(0)
    network, x = SoftLabelingNetwork(*SHAPE), torch.randn(7, 3)
    y = torch.tensor([0, 3, 1, 2, 0, 1, 1])
    soft = soft_labels(y, 4, 0.2)
    loss = network.loss(x, torch.cat([y[:, None], soft], 1).float())
    logs = log_softmax(logits(network, x), axis=1)
    assert float(loss.detach()) == pytest.approx(-(soft.numpy() * logs).sum(1).mean())
    smooth = functional.cross_entropy(network(x), y, label_smoothing=0.2)
    assert float(loss.detach()) == pytest.approx(float(smooth), rel=1e-6)


def test_the_best_logits_of_smooth_labels_are_known():
    s, c = 0.3, 2
    X = np.array([[-1.0], [1.0]] * 20)
    detector = SoftLabeling(
        smoothing=s,
        hidden_sizes=(),
        max_epochs=300,
        batch_size=40,
        lr=0.05,
        weight_decay=0.0,
        contamination=0.5,
        random_state=0,
    ).fit(X, np.array(["a", "b"] * 20))
    assert_allclose(-detector.score_samples(X[:2]), s / c - 1, rtol=1e-3)
    z = logits(detector.net_, torch.tensor(X[:1]).float())[0]
    assert z[0] - z[1] == pytest.approx(np.log((1 - s + s / c) / (s / c)), rel=1e-2)


def test_without_smoothing_it_is_a_plain_classifier(data):
    X, y, mark = data
    X, y = X[mark == 1], y[mark == 1]
    with pytest.warns(UserWarning, match="No outlier"):
        plain = small(OutlierExposure).fit(X, y)
    assert_allclose(
        small(SoftLabeling, smoothing=0).fit(X, y).score_samples(X),
        plain.score_samples(X),
        rtol=1e-4,
    )


def test_a_teacher_may_be_any_classifier(data):
    X, y, mark = data
    X, y = X[mark == 1], y[mark == 1].astype(str)
    forest = RandomForestClassifier(10, random_state=0).fit(X, y)
    detector = small(SoftLabeling, teacher=FrozenEstimator(forest), temperature=2.0)
    given = (
        detector.set_params(smoothing=0.9)
        .fit(X, y)
        ._training_labels(X, np.searchsorted(np.unique(y), y))
    )
    p = np.maximum(forest.predict_proba(X), 1e-300) ** 0.5
    p /= p.sum(1, keepdims=True)
    own = y[:, None] == np.unique(y)
    assert_allclose(given[:, 1:], 0.1 * own + 0.9 * p, atol=1e-6)
    # one that is not fitted is fitted to the same rows; a module is taken as it is
    fitted = small(SoftLabeling, teacher=LogisticRegression()).fit(X, y)
    labels = fitted._training_labels(X, np.searchsorted(np.unique(y), y))
    p = LogisticRegression().fit(X, y).predict_proba(X)
    assert_allclose(labels[:, 1:], 0.9 * own + 0.1 * p, atol=1e-6)
    taught = small(SoftLabeling, teacher=fitted.net_, smoothing=1.0).fit(X, y)
    rows = torch.as_tensor(X).float()
    z = logits(fitted.net_, rows)
    labels = taught._training_labels(X, np.searchsorted(np.unique(y), y))
    assert_allclose(labels[:, 1:], softmax(z, axis=1), atol=1e-5)


def test_a_student_is_unsure_of_outliers_as_its_teacher_is(data):
    X, y, mark = data
    inside = mark == 1
    exposed = small(OutlierExposure, outlier_weight=2.0).fit(X, y, y_ood=mark).net_
    areas = [
        roc_auc_score(
            mark,
            small(SoftLabeling, teacher=teacher, smoothing=s, temperature=5.0)
            .fit(X[inside], y[inside])
            .score_samples(X),
        )
        for teacher, s in ((exposed, 1.0), (None, 0.0))
    ]
    assert areas[0] > areas[1], areas


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"incorrect": "teacher"}, "needs the probabilities of one"),
        ({"teacher": SoftLabeling()}, "is a SoftLabeling, a detector: pass"),
        ({"teacher": LinearSVC()}, "needs class probabilities, and LinearSVC"),
    ],
)
def test_teachers_that_say_nothing_are_refused(data, settings, message):
    X, y, mark = data
    with pytest.raises(ValueError, match=message):
        small(SoftLabeling, **settings).fit(X[mark == 1], y[mark == 1])


# ------------------------------------------------------------- Dirichlet, and EDL


def test_dirichlet_formulas_against_draws():
    alpha = np.array([1.3, 0.4, 2.2])
    rng = np.random.default_rng(0)
    p = rng.dirichlet(alpha, size=400_000)
    rows, y = torch.tensor(alpha[None]), torch.tensor([1])
    square = ((p - np.eye(3)[1]) ** 2).sum(1).mean()
    assert expected_square(rows, y).item() == pytest.approx(square, rel=5e-3)
    mean = p.mean(0)
    entropy = -(mean * np.log(mean)).sum()
    each = -(p * np.log(p.clip(1e-300))).sum(1).mean()
    found = mutual_information(rows).item()
    assert found == pytest.approx(entropy - each, rel=1e-2)
    beta = np.array([2.0, 1.0, 0.7])
    p = p.clip(1e-12) / p.clip(1e-12).sum(1, keepdims=True)
    ratio = dirichlet.logpdf(p.T, alpha) - dirichlet.logpdf(p.T, beta)
    found = dirichlet_divergence(rows, torch.tensor(beta[None])).item()
    assert found == pytest.approx(ratio.mean(), rel=1e-2)
    # mean of -log p_y, and -log of the mean
    for name, expected in (
        ("digamma", -np.log(p[:, 0]).mean()),
        ("log", -np.log(mean[0])),
    ):
        found = COSTS[name](rows, torch.tensor([0])).item()
        assert found == pytest.approx(expected, rel=1e-2)


def test_dirichlet_limits():
    flat = torch.ones(1, 3).double()
    assert dirichlet_divergence(flat, flat).item() == pytest.approx(0, abs=1e-12)
    sure = torch.tensor([[5.0, 2.0, 1.0]]).double()
    assert mutual_information(1e7 * sure).item() == pytest.approx(0, abs=1e-6)
    assert mutual_information(0.1 * flat).item() > 0.4
    for c in (2, 3, 7):  # without evidence
        alpha = torch.ones(1, c).double()
        expected = (c - 1) * (c + 2) / (c * (c + 1))
        found = expected_square(alpha, torch.tensor([0])).item()
        assert found == pytest.approx(expected, rel=1e-12)


def test_edl_is_the_formula_and_takes_wrong_evidence_back_by_and_by(batch):
    x, _ = batch
    y = torch.tensor([0, 3, 1, 2, 2, 1, 1])
    network = EDLNetwork(*SHAPE, "relu", "squared", 4)
    z = 3 * torch.randn(7, 4)
    alpha = 1 + z.clamp(min=0)
    other = torch.where(functional.one_hot(y, 4) == 1, torch.ones(()), alpha)
    penalty = dirichlet_divergence(other, torch.ones_like(other))
    for epoch, share in enumerate((0, 0.25, 0.5, 0.75, 1, 1)):
        assert float(network.epoch) == epoch
        expected = expected_square(alpha, y) + share * penalty
        assert_allclose(network.inside(z, y), expected, rtol=1e-5)
        network.end_epoch("fit", None)
    alpha = 1 + network(x).clamp(min=0)
    expected = 4 / alpha.sum(1)
    assert_allclose(network.anomaly(x).detach(), expected.detach(), rtol=1e-5)
    assert (expected <= 1).all()


def test_edl_counts_its_epochs(data):
    X, y, mark = data
    detector = small(EDL).fit(X, y, y_ood=mark)
    assert int(detector.net_.epoch) == SMALL["max_epochs"]
    scores = detector.score_samples(X)
    assert ((scores >= -1) & (scores < 0)).all()


# ------------------------------------------------------------- Dirichlet prior


@pytest.mark.parametrize(("loss", "margin"), [("dpn-", 0.5), ("dpn+", 0.0)])
def test_dirichlet_prior_is_the_formula(batch, loss, margin):
    x, y = batch
    network = DirichletPriorNetwork(*SHAPE, loss, "precision", 0.5)
    z, y = logits(network, x), y.numpy()
    log_p, size = log_softmax(z, axis=1), 1 / (1 + np.exp(-z))
    inside, outside = y >= 0, y < 0
    own = -log_p[inside, y[inside]] - (1 - margin) * size[inside].mean(1)
    others = -log_p[outside].mean(1) - (0.25 - margin) * size[outside].mean(1)
    found = float(network.loss(*batch))
    assert found == pytest.approx(own.mean() + 0.5 * others.mean(), rel=1e-5)
    expected = -np.log(np.exp(z).sum(1))
    assert_allclose(network.anomaly(x).detach(), expected, rtol=1e-5)


def test_reverse_divergence_vanishes_at_its_targets():
    network = DirichletPriorNetwork(*SHAPE, "reverse_kl", "precision", 0.5)
    wanted = torch.tensor([[1.0, 101.0, 1.0, 1.0]]).double()
    found = network.inside(wanted.log(), torch.tensor([1]))
    assert found.item() == pytest.approx(0, abs=1e-9)
    assert network.inside(wanted.log(), torch.tensor([0])).item() > 10
    found = network.outside(torch.zeros(1, 4).double())
    assert found.item() == pytest.approx(0, abs=1e-12)


def test_precision_of_outliers_is_small(data):
    """Of dpn- below one each; of dpn+ not."""
    X, y, mark = data
    detector = small(DirichletPrior, measure="precision", max_epochs=60).fit(
        X, y, y_ood=mark
    )
    z = detector.net_(torch.as_tensor(X).float()).detach().numpy()
    assert (np.median(z[mark == -1], axis=0) < 0).all()
    assert np.median(z[mark == 1].max(1)) > 2
    other = clone(detector).set_params(loss="dpn+").fit(X, y, y_ood=mark)
    z = other.net_(torch.as_tensor(X).float()).detach().numpy()
    assert (np.median(z[mark == -1], axis=0) > 0).all()


# ------------------------------------------------------------- learned confidence


def test_confidence_has_a_closed_form():
    """Of a fixed prediction q and price, with hints for half of the rows."""
    network = LearnedConfidenceNetwork(*SHAPE, 0.3)
    price = float(network.price)
    assert price == pytest.approx(0.1)
    z = torch.tensor([[0.4, 0.0, 0.1, -0.3]]).double().repeat(20_000, 1)
    q = float(softmax(z[0].numpy())[1])
    y = torch.ones(20_000, dtype=torch.long)

    def cost(c):
        torch.manual_seed(0)
        v = torch.full((20_000, 1), float(np.log(c / (1 - c)))).double()
        return float(network.inside(torch.cat([z, v], dim=1), y).mean())

    # of those that may ask c* = price' / ((1 + price') (1 - q)), with twice the price
    expected = 2 * price / ((1 + 2 * price) * (1 - q))
    found = minimize_scalar(cost, bounds=(1e-3, 1 - 1e-3), method="bounded")
    assert found.x == pytest.approx(expected, rel=0.02)
    hints = -np.log(expected * q + 1 - expected)
    expected = 0.5 * (-np.log(q) + hints) - price * np.log(expected)
    assert found.fun == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize(("budget", "factor"), [(1e9, 1 / 1.01), (0.0, 1 / 0.99)])
def test_the_price_follows_the_budget(batch, budget, factor):
    x, _ = batch
    y = torch.tensor([0, 3, 1, 2, 2, 1, 1])
    network = LearnedConfidenceNetwork(*SHAPE, budget)
    network.watched("fit", x, y)  # of held-out rows, which set no price
    for step in range(1, 4):
        for _ in network.updates("fit", x, y):
            pass
        assert float(network.price) == pytest.approx(0.1 * factor**step, rel=1e-5)


def test_confidence_is_low_where_classes_overlap():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(600, 1)), rng.integers(2, size=600)
    y = np.where(np.abs(X[:, 0]) > 0.7, X[:, 0] > 0, y)
    detector = LearnedConfidence(**{**SMALL, "max_epochs": 100}).fit(X, y)
    middle, sides = detector.score_samples([[0.0], [0.3]]), [[-2.0], [2.0]]
    assert middle.max() < detector.score_samples(sides).min() - 0.05


def test_a_step_raises_the_confidence(data):
    X, y, mark = data
    detector = small(LearnedConfidence, epsilon=0.01).fit(X, y, y_ood=mark)
    plain = clone(detector).set_params(epsilon=0.0).fit(X, y, y_ood=mark)
    assert (detector.score_samples(X) >= plain.score_samples(X)).mean() > 0.95
    assert not np.allclose(detector.score_samples(X), plain.score_samples(X))


# ------------------------------------------------------------- OECC


def test_oecc_is_the_formula(batch):
    x, y = batch
    network = OECCNetwork(*SHAPE, 9.0, 12.8)
    network.accuracy.fill_(0.9)
    p, y = softmax(logits(network, x), axis=1), y.numpy()
    inside = y >= 0
    own = -np.log(p[inside, y[inside]]) + 9 * (p[inside].max(1) - 0.9) ** 2
    others = np.abs(p[~inside] - 0.25).sum(1)
    for phase, expected in (
        ("fit", own.mean() + 12.8 * others.mean()),
        ("pretrain", -np.log(p[inside, y[inside]]).mean()),
    ):
        [(_, found)] = network.updates(phase, *batch)
        assert float(found) == pytest.approx(expected, rel=1e-5)
    sure = torch.tensor([[50.0, 0.0, 0.0, 0.0]])
    assert network.outside(sure).item() == pytest.approx(2 * (1 - 1 / 4), rel=1e-6)
    assert network.outside(0 * sure).item() == 0


def test_oecc_is_as_sure_as_it_was_right(data):
    X, y, mark = data
    rng = np.random.default_rng(0)
    y = np.where(rng.uniform(size=len(y)) < 0.3, (y + 1) % 3, y)  # never all right
    detector = small(OECC, pretrain_epochs=20, max_epochs=40).fit(X, y, y_ood=mark)
    accuracy = float(detector.net_.accuracy)
    assert 0.5 < accuracy < 0.85
    assert detector.score_samples(X[mark == 1]).mean() == pytest.approx(
        accuracy, abs=0.1
    )
    sure = clone(detector).set_params(confidence_weight=0.0, outlier_weight=0.0)
    sure.fit(X, y, y_ood=mark)
    assert detector.score_samples(X[mark == -1]).mean() < 0.4
    assert sure.score_samples(X[mark == -1]).mean() > 0.5


# ------------------------------------------------------------- ACET


def test_noise_has_the_values_of_samples_or_of_their_range():
    torch.manual_seed(0)
    x = torch.randn(8, 5) * torch.arange(1, 6)
    network = ACETNetwork((5,), 3, "mlp", (4,), 0.3, 0, 0.5, 1.0)
    network.begin("fit", lambda: iter([(x[:4], None), (x[4:], None)]))
    assert_allclose(network.low, x.amin(0))
    assert_allclose(network.high, x.amax(0))
    noise = network.outsiders(x)
    assert_allclose(noise[:4].sort(1).values, x[:4].sort(1).values)
    assert not torch.equal(noise[:4], x[:4])
    assert ((noise[4:] >= network.low) & (noise[4:] <= network.high)).all()
    assert network.outsiders(x[:1]).shape == (1, 5)  # of one sample there is no half
    pictures = torch.rand(3, 2, 4, 5)
    mixed = permuted(pictures)  # pixels stay together
    before = {tuple(pixel.tolist()) for pixel in pictures[0].flatten(1).T}
    assert before == {tuple(pixel.tolist()) for pixel in mixed[0].flatten(1).T}
    assert not torch.equal(mixed, pictures)
    smooth = blurred(pictures)
    assert smooth.shape == pictures.shape
    assert_allclose(smooth.flatten(1).amin(1), 0, atol=1e-6)
    assert_allclose(smooth.flatten(1).amax(1), 1, atol=1e-6)


def test_the_blur_is_a_gaussian(monkeypatch):
    from scipy.ndimage import gaussian_filter

    monkeypatch.setattr("skad.ood._acet._BLUR", (1.5, 1.5))
    x = np.random.default_rng(0).uniform(size=(1, 1, 20, 24))
    expected = gaussian_filter(x[0, 0], 1.5, mode="nearest", radius=7)
    expected = (expected - expected.min()) / np.ptp(expected)
    assert_allclose(blurred(torch.tensor(x))[0, 0], expected, atol=1e-6)


@pytest.mark.parametrize("n_steps", [1, 10])
def test_the_search_keeps_to_its_ball_and_finds_no_less(n_steps):
    torch.manual_seed(0)
    x = torch.randn(40, 3)
    network = ACETNetwork((3,), 4, "mlp", (5,), 0.2, n_steps, 0.5, 1.0)
    network.begin("fit", lambda: iter([(x, None)]))
    noise = network.noise(x)
    worst = network.worst(noise)
    away = (worst - noise).abs() / (network.high - network.low)
    # noise of permuted columns may lie beyond the range, which is cut off
    inside = ((noise >= network.low) & (noise <= network.high)).all(1)
    assert away[inside].max() <= 0.2 + 1e-5
    gain = (log_confidence(network(worst)) - log_confidence(network(noise))).detach()
    assert gain.min() >= 0
    assert gain.mean() > 0.01


def test_the_search_of_a_linear_network_goes_one_way():
    """Away from the plane between two classes: by a radius from where it starts."""
    torch.manual_seed(0)
    x = torch.randn(60, 3)
    network = ACETNetwork((3,), 2, "mlp", (), 0.1, 40, 0.0, 1.0)
    network.begin("fit", lambda: iter([(x, None)]))
    noise = network.noise(x)
    [layer] = [p for p in network.modules() if isinstance(p, torch.nn.Linear)]
    way = (layer.weight[0] - layer.weight[1]).detach().sign()
    radius = 0.1 * (network.high - network.low)
    moved = way * (network.worst(noise) - noise) / radius
    one_way = (moved > -1e-5).all(1) | (moved < 1e-5).all(1)
    assert one_way.all()
    assert moved.abs().mean() > 0.6


def test_without_steps_it_is_the_noise_itself(batch):
    x, _ = batch
    network = ACETNetwork(*SHAPE, 0.3, 0, 0.5, 0.7)
    network.begin("fit", lambda: iter([(x, None)]))
    y = torch.tensor([0, 3, 1, 2, 2, 1, 1])
    torch.manual_seed(1)
    noise = network.noise(x)
    p = softmax(logits(network, noise), axis=1)
    log_p = log_softmax(logits(network, x), axis=1)
    expected = -log_p[range(7), y].mean() + 0.7 * np.log(p.max(1)).mean()
    torch.manual_seed(1)
    assert float(network.loss(x, y)) == pytest.approx(expected, rel=1e-5)


def test_noise_far_away_is_doubted():
    X, y, _ = make()
    far = np.random.default_rng(1).uniform(-3, 6, size=(300, 3))
    plain = OutlierExposure(**SMALL, contamination=0.1)
    with pytest.warns(UserWarning, match="No outlier is marked"):
        plain.fit(X, y)
    detector = small(ACET, contamination=0.1).fit(X, y)
    gap = plain.score_samples(far).mean() - detector.score_samples(far).mean()
    assert gap > 0.15


# ------------------------------------------------------------- VOS


def vos(**given):
    options = {"latent_size": 6, "queue_size": 5, "n_draws": 50, "n_kept": 2}
    options = {**options, "outlier_weight": 0.1, **given}
    return VOSNetwork(*SHAPE, **options)


def test_queues_have_the_last_features():
    network, y = vos(), torch.tensor([0, 2, 0, 2, 2])
    torch.manual_seed(0)
    rows = [torch.randn(5, 6) for _ in range(3)]
    for f in rows:
        network.remember(f, y)
    assert network.filled.tolist() == [5, 0, 5, 0]
    own = torch.cat([f[y == 0] for f in rows])
    assert_array_equal(network.queue[0], own[-5:])
    means, root = network.gaussians()
    parts = [network.queue[k].numpy() for k in (0, 2)]
    assert_allclose(means, [part.mean(0) for part in parts], rtol=1e-5)
    away = np.concatenate([part - part.mean(0) for part in parts])
    expected = away.T @ away / 10 + 1e-4 * np.eye(6)
    assert_allclose(root @ root.T, expected, rtol=1e-4, atol=1e-6)


def test_made_features_are_the_least_likely_draws():
    network = vos()
    torch.manual_seed(0)
    network.remember(torch.randn(20, 6), torch.arange(20) % 4)
    means, root = network.gaussians()
    torch.manual_seed(3)
    made = network.synthesised()
    torch.manual_seed(3)
    for k, mean in enumerate(means):
        density = torch.distributions.MultivariateNormal(mean, scale_tril=root)
        draws = mean + torch.randn(50, 6) @ root.T
        least = density.log_prob(draws).topk(2, largest=False).values
        found = density.log_prob(made[2 * k : 2 * k + 2])
        assert_allclose(found, least, rtol=1e-4)


def test_energies_of_made_features_teach_the_last_layer(batch):
    """Their gradient is cut off in a known implementation."""
    x, _ = batch
    network, y = vos(), torch.tensor([0, 3, 1, 2, 2, 1, 1])
    network.remember(torch.randn(20, 6), torch.arange(20) % 4)
    z, made = network(x).detach(), network.head(torch.randn(5, 6))
    network.edge(z, made).backward()
    assert network.head.weight.grad.abs().max() > 0
    energies = [
        np.log((np.maximum(w, 0) * np.exp(part)).sum(1))
        for w in [network.energy_weight.detach().numpy()]
        for part in (z.numpy(), made.detach().numpy())
    ]
    told = [
        log_softmax(network.told(torch.tensor(e)[:, None]).detach().numpy(), axis=1)
        for e in energies
    ]
    expected = -np.concatenate([told[0][:, 1], told[1][:, 0]]).mean()
    assert float(network.edge(z, made)) == pytest.approx(expected, rel=1e-5)
    network.zero_grad()
    torch.manual_seed(2)
    [(_, found)] = network.updates("fit", x, y)
    found.backward()
    slope = network.head.weight.grad.clone()
    network.zero_grad()
    torch.manual_seed(2)
    z = network(x)
    edge = network.edge(z, network.head(network.synthesised()))
    expected = functional.cross_entropy(z, y) + 0.1 * edge
    expected.backward()
    assert float(found.detach()) == pytest.approx(float(expected.detach()), rel=1e-6)
    assert_allclose(slope, network.head.weight.grad, rtol=1e-4, atol=1e-7)
    [(_, plain)] = network.updates("pretrain", x, y)
    expected = functional.cross_entropy(network(x), y)
    assert float(plain) == pytest.approx(float(expected), rel=1e-6)
    expected = -np.log(np.exp(logits(network, x)).sum(1))
    assert_allclose(network.anomaly(x).detach(), expected, rtol=1e-5)


def test_vos_begins_after_its_first_epochs(data):
    X, y, mark = data
    detector = small(VOS, max_epochs=3, pretrain_epochs=2).fit(X, y, y_ood=mark)
    assert [entry["phase"] for entry in detector.history_] == ["pretrain"] * 2 + [
        "fit"
    ] * 3
    assert (detector.net_.filled > 0).all()
    with pytest.raises(ValueError, match="n_kept=9 is more than n_draws=5"):
        VOS(n_kept=9, n_draws=5).fit(X, y)


# ------------------------------------------------------------- ConfidentClassifier


def played():
    torch.manual_seed(0)
    network = ConfidentClassifierNetwork(*SHAPE, 0.7, 2)
    x, y = torch.randn(9, 3), torch.arange(9) % 4
    network.begin("fit", lambda: iter([(x, y)]))
    return network, x, y


def test_three_play():
    network, x, y = played()
    torch.manual_seed(1)
    first, second = torch.randn(9, 2), torch.randn(9, 2)
    fake, fresh = network.generator(first), network.generator(second)

    def divergence(rows):
        p = softmax(logits(network, rows), axis=1)
        return (0.25 * np.log(0.25 / p)).sum(1).mean()

    def chance(rows):  # of being real
        return 1 / (1 + np.exp(-network.discriminator(rows)[0].detach().numpy()))

    log_p = log_softmax(logits(network, x), axis=1)
    expected = {
        "discriminator": -np.log(chance(x)).mean() - np.log(1 - chance(fake)).mean(),
        "generator": -np.log(chance(fake)).mean() + 0.7 * divergence(fake),
        "classifier": -log_p[range(9), y].mean() + 0.7 * divergence(fresh),
    }
    torch.manual_seed(1)
    for group, loss in network.updates("fit", x, y):
        assert float(loss.detach()) == pytest.approx(expected.pop(group), rel=1e-4)
        network.zero_grad()
        loss.backward()
        moved = {
            name
            for name in ("discriminator", "generator", "classifier")
            if any(
                p.grad is not None and p.grad.abs().max() > 0
                for p in network.get_submodule(name).parameters()
            )
        }
        assert moved == {group}
    assert not expected


def test_made_samples_keep_to_the_range_and_become_unsure():
    network, x, _ = played()
    made = network.made(500, x)
    assert ((made >= x.amin(0)) & (made <= x.amax(0))).all()
    sure = torch.tensor([[0.0, 0, 0, 0], [30.0, 0, 0, 0]])
    assert_allclose(network.outside(sure), [0, 30 * 0.75 - np.log(4)], atol=1e-5)
    X, y, _ = make()
    detector = small(ConfidentClassifier, max_epochs=40, latent_size=4).fit(X, y)
    net = detector.net_
    torch.manual_seed(0)
    made = net.made(300, torch.zeros(1, 3))
    confidence = -net.anomaly(made).mean()
    assert confidence < detector.score_samples(X).mean() - 0.1


def test_betas_are_those_of_games():
    detector = ConfidentClassifier()
    assert detector._optimizer_of("fit", "generator") == {"betas": (0.5, 0.999)}
    assert detector._optimizer_of("fit", "classifier") == {}
    detector.set_params(optimizer="sgd")
    assert detector._optimizer_of("fit", "generator") == {}
