"""Detectors around a classifier: formulas, a peer's scores, what peers get wrong."""

import copy
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.spatial.distance import cdist
from scipy.special import log_softmax, logsumexp, softmax
from scipy.stats import weibull_min
from sklearn import config_context
from sklearn.ensemble import RandomForestClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

import skad
from skad.ood import (
    ASH,
    DICE,
    FDBD,
    GEN,
    KNNOOD,
    NCI,
    ODIN,
    PNML,
    SCALE,
    SHE,
    Energy,
    Entropy,
    GradNorm,
    KLMatching,
    MahalanobisOOD,
    MaxLogit,
    MaxSoftmax,
    NNGuide,
    OODDetector,
    OpenMax,
    ReAct,
    RelativeMahalanobis,
    TemperatureScaling,
    ViM,
    compare,
    extract,
)
from skad.ood._open_max import fit_weibull
from skad.ood._pnml import pull, regret, with_constant

EVERY = [getattr(skad.ood, name) for name in skad.ood.__all__]
EVERY = [found for found in EVERY if isinstance(found, type)]
EVERY = [found for found in EVERY if "classifier" in found._parameter_constraints]


class Net(torch.nn.Module):
    """The networks of the shared scores."""

    def __init__(self, body):
        super().__init__()
        self.body = body
        self.drop = torch.nn.Dropout(0.2)
        self.fc = torch.nn.Linear(32, 5)

    def forward(self, x):
        f = self.body(x)
        f = f.mean(dim=(2, 3)) if f.ndim == 4 else f
        return self.fc(self.drop(f))


def body(kind):
    relu, linear, conv = torch.nn.ReLU, torch.nn.Linear, torch.nn.Conv2d
    if kind == "mlp":
        layers = linear(64, 64), relu(), linear(64, 32), relu()
    else:
        layers = (
            *(conv(1, 16, 3, padding=1), relu(), conv(16, 32, 3, padding=1), relu()),
            *(torch.nn.MaxPool2d(2), conv(32, 32, 3, padding=1), relu()),
        )
    return torch.nn.Sequential(*layers)


class Golden:
    """A trained network, its data in double precision, and a peer's scores."""

    def __init__(self, folder, name):
        self.data = np.load(folder / "ood" / f"{name}.npz")
        self.net = Net(body(name[:3]))
        state = torch.load(folder / "ood" / f"{name}.pt", weights_only=True)
        self.net.load_state_dict(state)
        self.shape = (8, 8, 1) if name[:3] == "cnn" else None
        self.y = self.data["y_train"]
        rows = [
            self.data[f"X_{part}"].astype(float) for part in ("train", "test", "ood")
        ]
        rows = [part.reshape(len(part), -1) for part in rows]
        self.X, self.probe = rows[0], np.concatenate(rows[1:])
        self.labels = np.repeat([0, 1], [len(rows[1]), len(rows[2])])
        self.f, self.z = self.of("f"), self.of("z")
        self.f_train = self.data["f_train"].astype(float)
        self.z_train = self.data["z_train"].astype(float)
        self.W, self.b = self.data["W"].astype(float), self.data["b"].astype(float)

    def of(self, what):
        parts = [self.data[f"{what}_{part}"] for part in ("test", "ood")]
        return np.concatenate(parts).astype(float)

    def peer(self, name):
        parts = [self.data[f"s_{part}|{name}"] for part in ("test", "ood")]
        return np.concatenate(parts).astype(float)

    def anomaly(self, method, **settings):
        detector = method(self.net, image_shape=self.shape, **settings)
        return -detector.fit(self.X, self.y).score_samples(self.probe)

    def anomaly_of_outputs(self, method, **settings):
        """Return the same, from outputs that are computed once."""
        detector = method(self.net, image_shape=self.shape, **settings)
        train, probe = self.both_outputs()
        return -detector.fit(train, self.y).score_samples(probe)

    def both_outputs(self):
        """Return the outputs on rows that are fitted, and on those that are scored."""
        if not hasattr(self, "outputs"):
            self.outputs = [
                extract(self.net, rows, image_shape=self.shape)
                for rows in (self.X, self.probe)
            ]
        return self.outputs


@pytest.fixture(scope="module", params=["mlp_0", "cnn_0"])
def golden(request, shared):
    return Golden(shared, request.param)


@pytest.fixture(scope="module")
def mlp(shared):
    return Golden(shared, "mlp_0")


# (the peer's name, our class, its settings)
PEER = [
    ("MSP", MaxSoftmax, {}),
    ("MaxLogit", MaxLogit, {}),
    ("Energy", Energy, {}),
    ("Entropy", Entropy, {}),
    ("GradNorm_fc", GradNorm, {}),
    ("SHE", SHE, {}),
    ("DICE_p=.9", DICE, {}),
    ("DICE_p=.5", DICE, {"sparsity": 0.5}),
    ("KNN_k=1", KNNOOD, {"n_neighbors": 1}),
    ("KNN_k=5", KNNOOD, {"n_neighbors": 5}),
    ("KNN_k=50", KNNOOD, {}),
    ("KNN_k=5_nonorm", KNNOOD, {"n_neighbors": 5, "normalize": False}),
    ("NNGuide", NNGuide, {}),
    ("fDBD", FDBD, {}),
    ("NCI", NCI, {"alpha": 0.0}),
    ("ODIN_eps=0_T=1000", ODIN, {"epsilon": 0}),
    ("ODIN_eps=.0014_T=1000", ODIN, {}),
    ("ODIN_eps=.02_T=1000", ODIN, {"epsilon": 0.02}),
    ("ReAct_p=.9", ReAct, {}),
    ("ASH-S_.65", ASH, {"pruned": 0.65}),
    ("ASH-B_.65", ASH, {"pruned": 0.65, "variant": "b"}),
    ("ASH-P_.65", ASH, {"pruned": 0.65, "variant": "p"}),
    ("SCALE_.65", SCALE, {"pruned": 0.65}),
]


@pytest.mark.parametrize(
    ("name", "method", "options"), PEER, ids=[name for name, _, _ in PEER]
)
def test_scores_are_the_peers(golden, name, method, options):
    if golden.shape and method in (ReAct, ASH, SCALE):
        options = {**options, "layer": "body.6"}  # maps before they are averaged
    expected = golden.peer(name)
    found = golden.anomaly_of_outputs(method, **options)
    assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def gaussian_distances(rows, means, covariance):
    precision = np.linalg.pinv(covariance, rcond=1e-12, hermitian=True)
    gaps = rows[:, None, :] - means
    return np.einsum("nki,ij,nkj->nk", gaps, precision, gaps)


def by_hand(g, name):
    """Return scores written out on given features and logits."""
    (F, Z), (f, z) = (
        (rows["penultimate"].numpy(), rows.logits.numpy()) for rows in g.both_outputs()
    )
    y, p, P = g.y, softmax(z, axis=1), softmax(Z, axis=1)
    length = np.linalg.norm(f, axis=1)
    by_logits = {
        "MaxSoftmax": -p.max(1),
        "MaxLogit": -z.max(1),
        "Energy": -logsumexp(z, axis=1),
        "Entropy": -(p * np.log(p)).sum(1),
        "GradNorm": -np.abs(p[:, :, None] - 0.2).sum((1, 2)) * np.abs(f).sum(1),
    }
    if name in by_logits:
        return by_logits[name]
    if name == "KNNOOD":
        distances = cdist(f / length[:, None], F / np.linalg.norm(F, axis=1)[:, None])
        return np.sort(distances, axis=1)[:, 49]
    if name == "SHE":
        right = Z.argmax(1) == y
        patterns = np.stack([F[right & (y == k)].mean(0) for k in range(5)])
        return -(f * patterns[z.argmax(1)]).sum(1)
    if name in ("ReAct", "DICE"):
        W, f_shaped = g.W, np.minimum(f, np.quantile(F, 0.9))
        if name == "DICE":
            gain = F.mean(0) * W
            W, f_shaped = W * (gain > np.quantile(gain, 0.9)), f
        return -logsumexp(f_shaped @ W.T + g.b, axis=1)
    if name == "GEN":
        return np.sort(p**0.1 * (1 - p) ** 0.1, axis=1).sum(axis=1)
    if name == "KLMatching":
        typical = np.stack([P[P.argmax(1) == k].mean(0) for k in range(5)])
        return np.min([(p * np.log(p / d)).sum(1) for d in typical], axis=0)
    if name == "ViM":
        u = -np.linalg.pinv(g.W) @ g.b
        values, vectors = np.linalg.eigh((F - u).T @ (F - u))
        null = vectors[:, np.argsort(values)[: F.shape[1] - 16]]
        alpha = Z.max(1).mean() / np.linalg.norm((F - u) @ null, axis=1).mean()
        return alpha * np.linalg.norm((f - u) @ null, axis=1) - logsumexp(z, axis=1)
    means = np.stack([F[y == k].mean(0) for k in range(5)])
    within = (F - means[y]).T @ (F - means[y]) / len(F)
    # a unit that never fired deviates by .01 of the least deviation of another
    dead, variances = F.max(axis=0) == 0, np.diagonal(within)
    broken = (f[:, dead] ** 2).sum(axis=1) / (1e-4 * variances[~dead].min())
    near = gaussian_distances(f, means, within).min(1) + broken
    if name == "MahalanobisOOD":
        return near
    centre = F.mean(0)
    covariance = (F - centre).T @ (F - centre) / len(F)
    return near - gaussian_distances(f, centre[None], covariance)[:, 0]


BY_HAND = [MaxSoftmax, MaxLogit, Energy, Entropy, GradNorm, KNNOOD, SHE, ReAct, DICE]
BY_HAND += [GEN, KLMatching, ViM, MahalanobisOOD, RelativeMahalanobis]


@pytest.mark.parametrize("method", BY_HAND, ids=lambda method: method.__name__)
def test_scores_are_the_formulas(golden, method):
    """Also where the peer clamps, or loses digits in single precision."""
    expected = by_hand(golden, method.__name__)
    dead = golden.f_train.max(axis=0) == 0
    plain = (golden.f[:, dead] == 0).all(axis=1)  # others may be without bound
    atol = 1e-6 * np.abs(expected[plain]).max()
    assert_allclose(golden.anomaly_of_outputs(method), expected, rtol=1e-6, atol=atol)


def test_formulas_agree_with_the_peer_but_for_its_faults(golden):
    """It halves distances, of the scatter; averages GEN; rounds in single precision."""
    n, alive = len(golden.X), golden.f_train.max(axis=0) > 0
    # what it adds to the scatter makes units infinitely important that never fired
    rows = (golden.f[:, ~alive] == 0).all(axis=1)
    assert rows.mean() > 0.3
    distance = golden.anomaly_of_outputs(MahalanobisOOD) / (2 * n)
    assert_allclose(distance[rows], golden.peer("Mahalanobis")[rows], rtol=1e-3)
    expected = 5 * golden.peer("GEN")
    rows = softmax(golden.z, axis=1).min(axis=1) > 1e-5  # below, it clamps
    assert_allclose(golden.anomaly_of_outputs(GEN)[rows], expected[rows], rtol=1e-2)
    expected = golden.peer("KLMatching")
    large = expected > 1e-3  # below, its logarithms cancel
    assert_allclose(
        golden.anomaly_of_outputs(KLMatching)[large], expected[large], rtol=1e-3
    )
    for name, method in (("RMD", RelativeMahalanobis), ("ViM_d=16", ViM)):
        ours = roc_auc_score(golden.labels, golden.anomaly_of_outputs(method))
        assert ours > roc_auc_score(golden.labels, golden.peer(name)) - 0.01


def test_pnml_is_the_best_in_hindsight(golden):
    """Learns each probe with each class, by least squares of log-probabilities."""
    (F, _), (f, _) = (
        (rows["penultimate"].numpy(), rows.logits) for rows in golden.both_outputs()
    )
    V, v = (np.column_stack([np.ones(len(part)), unit(part)]) for part in (F, f))
    weights = np.column_stack([golden.b, golden.W])
    logs = log_softmax(V @ weights.T, axis=1)
    alive = V.any(axis=0)  # other units make rows that no other row is like
    plain = ~v[:, ~alive].any(axis=1)
    rows = np.flatnonzero(plain)[::40]
    expected = []
    for x in v[rows]:
        known = log_softmax(weights @ x)
        # targets that least squares leaves as they are, and the label's, log 1
        fitted = np.linalg.lstsq(V, logs, rcond=1e-6)[0]
        targets = np.vstack([V @ fitted, x @ fitted])
        total = 0
        for label in range(5):
            wanted = targets.copy()
            wanted[-1, label] += 0 - known[label]
            again = np.linalg.lstsq(np.vstack([V, x]), wanted, rcond=1e-6)[0]
            moved = known + x @ (again - fitted)
            total += softmax(moved)[label]
        expected.append(np.log(total) / np.log(5))
    found = golden.anomaly_of_outputs(PNML)
    assert_allclose(found[rows], expected, rtol=1e-3)
    assert len(rows) > 5
    auc = roc_auc_score(golden.labels, found)
    assert auc > roc_auc_score(golden.labels, golden.peer("PNML"))


def test_pnml_where_nothing_is_left_to_learn_and_where_all_is():
    logits = np.array([[2.0, -1.0, 0.5], [0.0, 0.0, 0.0], [900.0, 0.0, 0.0]])
    p = softmax(logits, axis=1)
    assert_array_equal(regret(logits, np.zeros(3)), 0)
    expected = np.log((1 / (2 - p)).sum(axis=1)) / np.log(3)
    assert_allclose(regret(logits, np.ones(3)), expected, rtol=1e-12)
    # sure predictions keep their order, and have gradients
    sure = np.array([[40.0, 0.0], [80.0, 0.0], [160.0, 0.0]])
    found = regret(sure, np.full(3, 0.1))
    assert np.all(np.diff(found) < 0)
    assert found[-1] > 0
    x = torch.tensor(np.concatenate([sure, [[900.0, 0.0]]])).requires_grad_(True)
    regret(x, torch.full((4,), 0.5, dtype=x.dtype)).sum().backward()
    assert torch.isfinite(x.grad).all()


def test_pnml_knows_what_no_row_has():
    rng = np.random.default_rng(0)
    X, y = np.c_[rng.normal(size=(60, 3)) + 3, np.zeros(60)], np.arange(60) % 2
    classifier = FrozenEstimator(LogisticRegression().fit(X, y))
    detector = PNML(classifier).fit(X, y)
    probe = np.repeat(X[:1], 3, axis=0)
    probe[1:, 3] = 0.5, 50.0
    moved = pull(with_constant(probe), detector._root_, detector._outside_)
    share = probe[:, 3] ** 2 / (probe**2).sum(axis=1)
    assert_allclose(moved[2], share[2], rtol=1e-6)
    assert moved[0] < 0.2 < moved[2]
    scores = detector.score_samples(probe)
    assert scores[2] < scores[:2].min()


def test_a_unit_that_never_fired_may_fire_faintly(golden):
    """In a few test rows it does, by a hundredth of what others deviate by."""
    ours = golden.anomaly_of_outputs(RelativeMahalanobis)
    theirs = roc_auc_score(golden.labels, golden.peer("RMD"))
    assert roc_auc_score(golden.labels, ours) > theirs - 5e-4


def test_open_max_is_as_good_as_the_peers(golden):
    ours = golden.anomaly_of_outputs(OpenMax, tail_size=25)
    theirs = golden.peer("OpenMax")
    auc = roc_auc_score(golden.labels, ours)
    assert auc > roc_auc_score(golden.labels, theirs) - 0.01


def test_temperature_makes_held_out_labels_likeliest(golden):
    test = golden.labels == 0
    X, y = golden.probe[test], golden.data["y_test"]
    z = golden.z[test]

    def loss(temperature):
        return -np.log(softmax(z / temperature, axis=1)[np.arange(len(y)), y]).mean()

    detector = TemperatureScaling(golden.net, image_shape=golden.shape).fit(X, y)
    best = detector.temperature_
    assert loss(best) < min(loss(0.999 * best), loss(1.001 * best))
    expected = -softmax(golden.z / best, axis=1).max(1)
    assert_allclose(-detector.score_samples(golden.probe), expected, rtol=1e-5)
    with pytest.warns(UserWarning, match="stays 1"):
        detector.fit(X, golden.z[test].argmax(1))
    assert detector.temperature_ == 1


# --------------------------------------------------------------------------- identities


def blobs_of(rng, n=60, d=4, k=3):
    means = 4 * rng.normal(size=(k, d))
    y = np.arange(n) % k
    return means[y] + rng.normal(size=(n, d)), y


def test_react_without_clipping_and_dice_with_all_weights_are_energy(mlp):
    expected = mlp.anomaly(Energy)
    assert_allclose(mlp.anomaly(ReAct, threshold=np.inf), expected, rtol=1e-12)
    assert_allclose(mlp.anomaly(DICE, sparsity=0), expected, rtol=1e-12)
    assert_allclose(mlp.anomaly(ASH, pruned=0, variant="p"), expected, rtol=1e-12)


@pytest.mark.parametrize("method", [ASH, SCALE, ReAct])
def test_shaping_goes_on_from_a_layer_inside(mlp, method):
    rows, y = mlp.X.copy(), mlp.y
    # the last hidden layer of either kind of network is what enters the last one
    expected = mlp.anomaly(method)
    assert_allclose(mlp.anomaly(method, layer="body.3"), expected, rtol=1e-9)
    network = MLPClassifier((16, 12), max_iter=30, random_state=0).fit(rows, y)
    frozen = FrozenEstimator(network)
    last = method(frozen).fit(rows, y).score_samples(rows)
    inside = method(frozen, layer="hidden_1").fit(rows, y)
    assert_allclose(inside.score_samples(rows), last, rtol=1e-9)
    # an earlier one, with the rest of the network written out
    first = method(frozen, layer="hidden_0").fit(rows, y)
    hidden = np.maximum(rows @ network.coefs_[0] + network.intercepts_[0], 0)
    values = first._shape(hidden)
    for weight, bias in zip(network.coefs_[1:], network.intercepts_[1:], strict=True):
        values = np.maximum(values, 0) @ weight + bias
    assert_allclose(first.score_samples(rows), logsumexp(values, axis=1), rtol=1e-9)
    assert np.abs(first.score_samples(rows) - last).max() > 0.01
    if method is ReAct:
        assert first.threshold_ == pytest.approx(np.quantile(hidden, 0.9))
    # gradients lead through it, and outputs that are known stand in for rows
    assert np.abs(
        method(mlp.net, layer="body.1").fit(rows, y).transform(rows[:2])
    ).any()
    known = extract(mlp.net, rows)
    again = method(mlp.net, layer="body.1").fit(known, y).score_samples(known)
    truth = method(mlp.net, layer="body.1").fit(rows, y).score_samples(rows)
    assert_allclose(again, truth, rtol=1e-9)
    for wrong in ("input", "decision", "nowhere"):
        with pytest.raises(ValueError, match="can be shaped: these are 'penultimate'"):
            method(mlp.net, layer=wrong).fit(rows, y)


def test_the_default_shaping_suits_small_networks(golden):
    for method in (ASH, SCALE):
        area = roc_auc_score(golden.labels, golden.anomaly_of_outputs(method))
        plain = roc_auc_score(golden.labels, golden.anomaly_of_outputs(Energy))
        assert area > plain - 0.06


def test_low_and_high_temperatures():
    X, y = blobs_of(np.random.default_rng(0))
    cold = Energy(temperature=1e-6).fit(X, y).score_samples(X)
    assert_allclose(cold, MaxLogit().fit(X, y).score_samples(X), atol=1e-5)
    still = ODIN(temperature=1, epsilon=0).fit(X, y).score_samples(X)
    assert_allclose(still, MaxSoftmax().fit(X, y).score_samples(X), rtol=1e-12)


def test_one_class_is_mahalanobis():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(80, 5)) @ rng.normal(size=(5, 5)) * 10.0 ** np.arange(5)
    ours, truth = (
        kind(contamination=0.1).fit(X) for kind in (MahalanobisOOD, skad.Mahalanobis)
    )
    assert_allclose(ours.score_samples(2 * X), truth.score_samples(2 * X), rtol=1e-8)
    assert ours.offset_ == pytest.approx(truth.offset_, rel=1e-8)
    lift = OODDetector().fit(X)
    assert_allclose(lift.score_samples(2 * X), truth.score_samples(2 * X), rtol=1e-12)


@pytest.mark.parametrize("name", ["MahalanobisOOD", "RelativeMahalanobis"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_dead_unit_that_fires_is_far_out(name, dtype):
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1, 2], 100)
    X = rng.normal(size=(300, 4)) + 4 * (y - 1)[:, None]
    X = np.c_[X, X[:, 0] - X[:, 1], np.zeros(300)].astype(dtype)
    rows = np.tile(X[0], (3, 1))
    rows[1, 5] = 0.5
    rows[2, 4] += 1
    detector = getattr(skad, name)().fit(X, y)
    scores = detector.score_samples(rows)
    assert scores[0] > -30
    # a unit that never fired deviates by .01 of the least deviation within classes
    least = np.sqrt(np.mean([X[y == k, :5].var(axis=0) for k in range(3)], 0).min())
    assert scores[1] == pytest.approx(-((0.5 / (0.01 * least)) ** 2), rel=0.01)
    assert scores[2] < -1e7
    assert np.mean(detector.predict(X) == -1) < 0.12


def test_vim_residual_is_the_null_space_norm(mlp):
    detector = ViM(mlp.net, n_components=20).fit(mlp.X, mlp.y)
    found = -detector.score_samples(mlp.probe) + logsumexp(mlp.z, axis=1)
    gaps = mlp.f_train - detector.origin_
    _, _, directions = np.linalg.svd(gaps)  # rows, in order of falling reach
    length = np.linalg.norm((mlp.f - detector.origin_) @ directions[20:].T, axis=1)
    scale = detector.alpha_ * length.max()
    assert_allclose(found, detector.alpha_ * length, atol=1e-5 * scale)


def test_grad_norm_is_the_gradient(mlp):
    found = mlp.anomaly(GradNorm)
    x = torch.as_tensor(mlp.probe[:20])
    net = copy.deepcopy(mlp.net).double().eval()
    for i in range(20):
        loss = -torch.log_softmax(net(x[i : i + 1]), dim=1).mean()
        (gradient,) = torch.autograd.grad(loss, net.fc.weight)
        assert found[i] == pytest.approx(-float(gradient.abs().sum()), rel=1e-9)


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("hidden", [None, "relu", "tanh", "logistic"])
def test_odin_steps_as_finite_differences_say(hidden, scaled):
    """Linear classifiers and scikit-learn's networks give gradients without torch."""
    X, y = blobs_of(np.random.default_rng(0))
    classifier = LogisticRegression()
    if hidden:
        classifier = MLPClassifier((8, 6), activation=hidden, random_state=0)
        classifier.set_params(max_iter=20)
    if scaled:
        classifier = make_pipeline(StandardScaler(), classifier)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        detector = ODIN(classifier, epsilon=0.1, temperature=5).fit(X, y)

    def loss(rows):
        outputs = extract(FrozenEstimator(detector.classifier_), rows)
        p = softmax(outputs.logits / 5, axis=1)
        return p.max(axis=1)

    step = np.zeros_like(X)
    for j in range(X.shape[1]):
        bump = 1e-6 * (np.arange(X.shape[1]) == j)
        step[:, j] = np.sign(loss(X + bump) - loss(X - bump))
    expected = loss(X + 0.1 * step)
    agree = np.isclose(-detector.score_samples(X), -expected, rtol=1e-9)
    assert agree.mean() > 0.95  # differences of zero have the sign of rounding


@pytest.mark.parametrize("decades", [2, 6, 10])
def test_covariances_hold_over_ten_decades(decades):
    """Scores do not change when the features are mixed by an invertible matrix."""
    rng = np.random.default_rng(0)
    scales = 10.0 ** np.linspace(0, -decades / 2, 12)
    X, y = blobs_of(rng, n=400, d=12, k=4)
    Q = np.linalg.qr(rng.normal(size=(12, 12)))[0]
    for method in (MahalanobisOOD, RelativeMahalanobis):
        truth = method().fit(X, y).score_samples(X)
        found = method().fit((X * scales) @ Q, y).score_samples((X * scales) @ Q)
        assert_allclose(found, truth, rtol=1e-3, atol=1e-3 * np.abs(truth).max())


@given(st.integers(0, 10_000), st.floats(0.5, 5), st.integers(3, 40))
@settings(max_examples=30, deadline=None)
def test_weibull_is_the_likeliest(seed, shape, n):
    values = 3 * np.random.default_rng(seed).weibull(shape, n) + 0.01
    c, log_scale = fit_weibull(values)

    def likelihood(c, log_scale):
        return weibull_min.logpdf(values, c, scale=np.exp(log_scale)).sum()

    best = likelihood(c, log_scale)
    for factor in (0.99, 1.01):
        assert likelihood(factor * c, log_scale) < best
        assert likelihood(c, log_scale + np.log(factor)) < best


def test_open_max_by_hand():
    X, y = blobs_of(np.random.default_rng(0), n=90)
    detector = OpenMax(tail_size=7, alpha=2).fit(X, y)
    z = detector.classifier_.decision_function(X)
    right = z.argmax(1) == y
    means = np.stack([z[right & (y == k)].mean(0) for k in range(3)])
    expected = []
    for row in z:
        top = np.argsort(-row)
        revised, unknown = row.copy(), 0.0
        for rank, k in enumerate(top[:2]):
            own = np.sort(np.linalg.norm(z[right & (y == k)] - means[k], axis=1))[-7:]
            c, log_scale = fit_weibull(own - own[0] + 10_000)
            distance = np.linalg.norm(row - means[k]) - own[0] + 10_000
            w = weibull_min.cdf(distance, c, scale=np.exp(log_scale)) * (2 - rank) / 2
            unknown += row[k] * w
            revised[k] = row[k] * (1 - w)
        expected.append(softmax([unknown, *revised])[0])
    assert_allclose(-detector.score_samples(X), expected, rtol=1e-5)


def test_knn_ood_by_hand():
    rng = np.random.default_rng(0)
    X, Q = rng.normal(size=(50, 3)), rng.normal(size=(10, 3))
    expected = np.sort(cdist(unit(Q), unit(X)), axis=1)[:, 3]
    found = -KNNOOD(n_neighbors=4).fit(X).score_samples(Q)
    assert_allclose(found, expected, rtol=1e-9)
    own = np.sort(cdist(unit(X), unit(X)), axis=1)[:, 4]  # without itself
    assert_allclose(-KNNOOD(n_neighbors=4).fit(X).score_samples(X), own, rtol=1e-9)


def test_knn_says_where_a_class_has_too_few_rows_for_its_neighbours():
    X, y = blobs_of(np.random.default_rng(0))
    names, fewest = np.array(["a", "b", "c"])[y], np.bincount(y).min()
    for labels in (None, names, np.repeat("a", len(X))):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            KNNOOD(n_neighbors=int(fewest) - (labels is not None)).fit(X, labels)
    with pytest.warns(UserWarning, match=f"the class [abc] has {fewest} training rows"):
        KNNOOD(n_neighbors=int(fewest)).fit(X, names)


@pytest.mark.parametrize("metric", ["inner", "cosine", "euclidean"])
def test_she_by_hand(metric):
    X, y = blobs_of(np.random.default_rng(0))
    y[:5] = (y[:5] + 1) % 3  # rows that are classified wrongly are not stored
    detector = SHE(metric=metric).fit(X, y)
    predicted = detector.classifier_.predict(X)
    S = np.stack([X[(y == k) & (predicted == k)].mean(0) for k in range(3)])[predicted]
    expected = {
        "inner": -(X * S).sum(1),
        "cosine": -(unit(X) * unit(S)).sum(1),
        "euclidean": np.linalg.norm(X - S, axis=1),
    }[metric]
    assert_allclose(-detector.score_samples(X), expected, rtol=1e-9)


# ----------------------------------------------------------------- what peers get wrong


def test_vim_needs_something_outside_of_the_principal_space(mlp):
    for n_components in (32, 64):
        detector = ViM(mlp.net, n_components=n_components)
        with pytest.raises(ValueError, match=f"n_components={n_components}"):
            detector.fit(mlp.X, mlp.y)
        assert detector.n_components == n_components


def fresh(method, net):
    settings = {"n_neighbors": 5} if method in (KNNOOD, NNGuide) else {}
    return method(net, **settings)


@pytest.mark.parametrize("method", EVERY, ids=lambda method: method.__name__)
def test_the_users_network_stays_as_it_was(mlp, method):
    net = copy.deepcopy(mlp.net).train()
    net.body.eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    modes = [module.training for module in net.modules()]
    state, numbers = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    detector = fresh(method, net)
    params = detector.get_params()
    detector.fit(mlp.X[:100], mlp.y[:100])
    scores = detector.score_samples(mlp.probe[:5])
    detector.transform(mlp.probe[:2])
    assert detector.get_params() == params
    assert [module.training for module in net.modules()] == modes
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in net.parameters())
    assert not any(module._forward_hooks for module in net.modules())
    assert not any(module._forward_hooks for module in detector.classifier_.modules())
    assert torch.equal(torch.get_rng_state(), state)
    assert_array_equal(np.random.get_state()[1], numbers)  # noqa: NPY002
    # dropout of the user's training mode does not reach the scores
    again = fresh(method, copy.deepcopy(net).eval()).fit(mlp.X[:100], mlp.y[:100])
    assert_array_equal(again.score_samples(mlp.probe[:5]), scores)


@pytest.mark.parametrize("method", EVERY, ids=lambda method: method.__name__)
def test_labels_of_any_type(mlp, method):
    plain = fresh(method, mlp.net).fit(mlp.X, mlp.y).score_samples(mlp.probe)
    for labels in (mlp.y + 5, np.array(list("abcde"))[mlp.y], mlp.y.astype(float)):
        other = fresh(method, mlp.net).fit(mlp.X, labels)
        assert_array_equal(other.score_samples(mlp.probe), plain)
        assert_array_equal(other.classes_, np.unique(labels))
    with pytest.raises(ValueError, match="y has"):
        fresh(method, mlp.net).fit(mlp.X, np.where(mlp.y == 0, "a", "b"))


@pytest.mark.parametrize("method", EVERY, ids=lambda method: method.__name__)
def test_types_and_tensors_of_a_network(mlp, method):
    X, y, probe = mlp.X[:200], mlp.y[:200], mlp.probe[:30]
    double = fresh(method, mlp.net).fit(X, y)
    truth = double.score_samples(probe)
    size = np.abs(truth).max()
    single = fresh(method, mlp.net).fit(X.astype(np.float32), y)
    found = single.score_samples(probe.astype(np.float32))
    if method is not ViM:  # eigenvalues at its cut are too close for single precision
        assert_allclose(found, truth, rtol=1e-2, atol=2e-3 * size)
    tensors = fresh(method, mlp.net).fit(torch.as_tensor(X), y)
    found = tensors.score_samples(torch.as_tensor(probe))
    assert isinstance(found, torch.Tensor)
    assert_allclose(found, truth, rtol=1e-7, atol=1e-9 * size)
    rows = np.concatenate([double.score_samples(row[None]) for row in probe])
    assert_allclose(rows, truth, rtol=1e-7, atol=1e-9 * size)


# ------------------------------------------------------- what a classifier has to offer


def test_a_classifier_without_logits_is_known_as_such():
    X, y = blobs_of(np.random.default_rng(0))
    votes, chances = SVC(), RandomForestClassifier(5, random_state=0)
    for method in (Energy, OpenMax, ViM, GradNorm, ReAct, ODIN):
        with pytest.raises(ValueError, match="SVC gives decision values that are no"):
            method(votes).fit(X, y)
        with pytest.raises(ValueError, match="RandomForestClassifier gives its class"):
            method(chances).fit(X, y)
    with pytest.raises(ValueError, match="needs class probabilities, and SVC"):
        MaxSoftmax(votes).fit(X, y)
    with pytest.raises(ValueError, match="needs one value per class"):
        MaxLogit(chances).fit(X, y)
    expected = SVC().fit(X, y).decision_function(X).max(axis=1)
    assert_allclose(MaxLogit(votes).fit(X, y).score_samples(X), expected)
    detector = MaxSoftmax(chances).fit(X, y)
    expected = detector.classifier_.predict_proba(X).max(axis=1)
    assert_allclose(detector.score_samples(X), expected)
    hot = MaxSoftmax(chances, temperature=2).fit(X, y).score_samples(X)
    roots = np.sqrt(detector.classifier_.predict_proba(X))
    assert_allclose(hot, (roots / roots.sum(1, keepdims=True)).max(1), rtol=1e-9)


def test_a_fitted_classifier_is_not_fitted_again_and_needs_no_labels():
    X, y = blobs_of(np.random.default_rng(0))
    fitted = LogisticRegression().fit(X, y)
    coef = fitted.coef_.copy()
    detector = Energy(FrozenEstimator(fitted)).fit(X + 1)
    assert_array_equal(fitted.coef_, coef)
    expected = logsumexp(fitted.decision_function(X), axis=1)
    assert_allclose(detector.score_samples(X), expected, rtol=1e-9)
    with pytest.raises(ValueError, match="requires y to be passed"):
        Energy(fitted).fit(X)
    assert Energy(fitted).__sklearn_tags__().target_tags.required
    assert not detector.__sklearn_tags__().target_tags.required


def test_known_outliers_are_not_learned_from():
    rng = np.random.default_rng(0)
    X, y = blobs_of(rng)
    both = np.concatenate([X, 20 + rng.normal(size=(9, 4))])
    labels = np.r_[y, [0] * 9]
    mark = np.repeat([1, -1], [60, 9])
    for method in (Energy, MahalanobisOOD, RelativeMahalanobis):
        truth = method().fit(X, y)
        by_mark = method().fit(both, labels, y_ood=mark)
        by_class = method().fit(both, mark, y_class=labels)
        names = np.r_[np.array(["a", "b", "c"])[y], ["none"] * 9]
        by_name = method().fit(both, mark, y_class=names)
        for found in (by_mark, by_class, by_name):
            if method is not MahalanobisOOD:
                assert_allclose(found.score_samples(X), truth.score_samples(X))
                assert found.offset_ == pytest.approx(truth.offset_)
            if method is MahalanobisOOD:
                assert_array_equal(found.predict(both[60:]), [-1] * 9)
        assert_array_equal(by_name.classes_, ["a", "b", "c"])
    with pytest.raises(ValueError, match="pass one of them"):
        Energy().fit(both, mark, y_class=labels, y_ood=mark)
    with pytest.raises(ValueError, match="all but 1 samples"):
        Energy().fit(X, y, y_ood=np.r_[1, [-1] * 59])


def test_outliers_choose_steps_and_layers(mlp):
    X = np.concatenate([mlp.X, mlp.probe[-200:]])
    y = np.r_[mlp.y, [0] * 200]
    mark = np.repeat([1, -1], [len(mlp.X), 200])
    layers = ["body.1", "penultimate"]
    plain = MahalanobisOOD(mlp.net, layer=layers).fit(mlp.X, mlp.y)
    assert_array_equal(plain.layer_weights_, [1, 1])
    each = [MahalanobisOOD(mlp.net, layer=name).fit(mlp.X, mlp.y) for name in layers]
    total = sum(detector.score_samples(mlp.probe) for detector in each)
    assert_allclose(plain.score_samples(mlp.probe), total, rtol=1e-9)
    tuned = MahalanobisOOD(mlp.net, layer=layers, epsilon=(0, 0.01, 0.05))
    tuned.fit(X, y, y_ood=mark)
    assert tuned.epsilon_ in (0, 0.01, 0.05)
    assert tuned.layer_weights_[1] > 0

    def auc(detector):
        rest = slice(0, -200)
        return roc_auc_score(mlp.labels[rest], -detector.score_samples(mlp.probe[rest]))

    assert auc(tuned) > auc(plain) - 0.005
    alone = ODIN(mlp.net, epsilon=(0.0, 0.01, 0.05)).fit(mlp.X)
    means = [
        ODIN(mlp.net, epsilon=e).fit(mlp.X).score_samples(mlp.X).mean()
        for e in (0.0, 0.01, 0.05)
    ]
    assert alone.epsilon_ == (0.0, 0.01, 0.05)[int(np.argmax(means))]
    with pytest.raises(ValueError, match="epsilon"):
        ODIN(mlp.net, epsilon=(0.1, -1)).fit(mlp.X)


def test_predict_with_rejection(mlp):
    names = np.array(["nil", "one", "two", "three", "four"])[mlp.y]
    detector = MahalanobisOOD(mlp.net, contamination=0.05).fit(mlp.X, names)
    found = detector.predict_with_rejection(mlp.probe, reject="none of them")
    outside = detector.predict(mlp.probe) == -1
    assert_array_equal(found == "none of them", outside)
    classes = np.unique(names)
    assert_array_equal(found[~outside], classes[mlp.z.argmax(1)[~outside]])
    numbers = MahalanobisOOD(mlp.net, contamination=0.05).fit(mlp.X, mlp.y)
    found = numbers.predict_with_rejection(mlp.probe)
    assert found.dtype == mlp.y.dtype
    assert_array_equal(found == -1, outside)
    with pytest.raises(ValueError, match="reject=0 is one of the classes"):
        numbers.predict_with_rejection(mlp.probe, reject=0)
    with pytest.raises(ValueError, match="has no classifier"):
        MahalanobisOOD().fit(mlp.X).predict_with_rejection(mlp.X)


# --------------------------------------------------------------------------- extraction


class Counting(Net):
    """Counts the rows that go through it."""

    rows = 0

    def forward(self, x):
        Counting.rows += len(x)
        return super().forward(x)


def counting(golden):
    net = Counting(copy.deepcopy(golden.net.body))
    net.load_state_dict(golden.net.state_dict())
    Counting.rows = 0
    return net


def test_many_methods_in_one_pass(mlp, tmp_path):
    methods = [
        *(fresh(method, None) for method in EVERY if method not in (ODIN,)),
        MahalanobisOOD(layer=["body.1", "penultimate"]),
    ]
    net = counting(mlp)
    found = compare(methods, net, mlp.X, mlp.y, X_test=mlp.probe)
    assert Counting.rows <= len(mlp.X) + len(mlp.probe) + 10  # a few to find out
    assert len(found) == len(methods)
    for detector, (name, scores) in zip(methods, found.items(), strict=True):
        alone = detector.set_params(classifier=mlp.net).fit(mlp.X, mlp.y)
        truth = alone.score_samples(mlp.probe)
        assert name.startswith(type(detector).__name__)
        assert_allclose(scores, truth, rtol=1e-9, atol=1e-12 * np.abs(truth).max())
    for _ in range(2):
        again = compare(methods[:3], net, mlp.X, mlp.y, X_test=mlp.X, memory=tmp_path)
        first = Counting.rows
    Counting.rows = 0
    compare(methods[:3], counting(mlp), mlp.X, mlp.y, X_test=mlp.X, memory=tmp_path)
    assert Counting.rows <= 10 < first
    assert_allclose(again["Energy"], logsumexp(mlp.z_train, axis=1), rtol=1e-5)


def test_outputs_stand_in_for_rows(mlp):
    outputs = extract(mlp.net, mlp.X)
    assert_allclose(outputs["penultimate"], mlp.f_train, rtol=1e-5, atol=1e-6)
    assert_allclose(outputs.logits, mlp.z_train, rtol=1e-5, atol=1e-5)
    detector = ViM(mlp.net).fit(outputs, mlp.y)
    truth = ViM(mlp.net).fit(mlp.X, mlp.y)
    assert_allclose(detector.score_samples(outputs), truth.score_samples(mlp.X))
    assert_allclose(detector.transform(outputs[:3]), truth.transform(mlp.X[:3]))
    with pytest.raises(ValueError, match="another classifier"):
        ViM(copy.deepcopy(mlp.net)).fit(outputs, mlp.y)


# --------------------------------------------------------------------------------- maps


@pytest.mark.parametrize("method", EVERY, ids=lambda method: method.__name__)
def test_integrated_gradients_add_up(mlp, method):
    """The map's sum is the anomaly less that of the training median."""
    smooth = (Energy, Entropy, MaxSoftmax, KLMatching, GEN, TemperatureScaling, OpenMax)
    detector = fresh(method, mlp.net).fit(mlp.X, mlp.y)
    maps = detector.transform(mlp.probe[-40:])
    assert maps.shape == (40, 64)
    assert np.isfinite(maps).all()
    anomaly = -detector.score_samples(mlp.probe[-40:])
    baseline = -detector.score_samples(np.median(mlp.X, axis=0)[None])
    if method in smooth:
        gap = np.abs(maps.sum(axis=1) - (anomaly - baseline))
        assert np.median(gap) < 0.1 * np.ptp(anomaly)
    ablation = fresh(method, mlp.net).set_params(attribution="ablation")
    ablated = ablation.fit(mlp.X, mlp.y).transform(mlp.probe[-2:])
    whole = anomaly[-1]
    without = mlp.probe[-1:].copy()
    without[0, 20] = np.median(mlp.X[:, 20])
    lost = whole + ablation.score_samples(without)[0]
    assert ablated[1, 20] == pytest.approx(lost, rel=1e-6, abs=1e-9)


def test_maps_of_linear_classifiers():
    X, y = blobs_of(np.random.default_rng(0))
    x = X[:3]
    maps = {
        how: MaxLogit(attribution=how).fit(X, y).transform(x)
        for how in ("gradient", "gradient_x_input", "integrated", "ablation")
    }
    detector = MaxLogit().fit(X, y)
    z = detector.classifier_.decision_function(x)
    slope = -detector.classifier_.coef_[z.argmax(1)]
    away = x - np.median(X, axis=0)
    assert_allclose(maps["gradient"], np.abs(slope), rtol=1e-9)
    assert_allclose(maps["gradient_x_input"], slope * away, rtol=1e-9)
    anomaly = MaxLogit(attribution="integrated").fit(X, y)
    median = np.median(X, axis=0)[None]
    gap = anomaly.score_samples(median) - anomaly.score_samples(x)
    assert_allclose(maps["integrated"].sum(1), gap, atol=0.3)
    with pytest.raises(ValueError, match="needs gradients to the input, and RandomF"):
        MaxSoftmax(RandomForestClassifier(3), attribution="gradient").fit(X, y)


def test_maps_of_pictures_have_their_shape(shared):
    g = Golden(shared, "cnn_0")
    pictures = g.X.reshape(-1, 8, 8)
    detector = Energy(g.net).fit(pictures, g.y)
    assert detector.transform(pictures[:2]).shape == (2, 8, 8)
    rows = Energy(g.net, image_shape=(8, 8)).fit(g.X, g.y)
    assert_array_equal(rows.score_samples(g.X), detector.score_samples(pictures))
    with pytest.raises(ValueError, match="fails on samples of shape"):
        Energy(g.net).fit(g.X, g.y)


def test_search_over_temperatures_and_steps_by_roc_auc(mlp):
    """Scorers get what is in and out as y, the classifier its classes by routing."""
    X = np.concatenate([mlp.X[:150], mlp.probe[-50:]])
    kinds = np.r_[mlp.y[:150], [0] * 50].astype(str)
    y = np.repeat([1, -1], [150, 50])
    with config_context(enable_metadata_routing=True):
        odin = ODIN(LogisticRegression(max_iter=1000)).set_fit_request(y_class=True)
        search = GridSearchCV(
            make_pipeline(StandardScaler(), odin),
            {"odin__temperature": [1, 1000], "odin__epsilon": [0.0, 0.1]},
            scoring="roc_auc",
            cv=StratifiedKFold(3, shuffle=True, random_state=0),
            error_score="raise",
        ).fit(X, y, y_class=kinds)
    assert search.best_score_ > 0.6
    assert set(search.best_estimator_[-1].classes_) == set("01234")
    scores = search.decision_function(mlp.probe)
    assert roc_auc_score(1 - mlp.labels, scores) > 0.6
