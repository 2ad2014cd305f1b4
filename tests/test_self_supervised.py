"""Networks that learn a task of their own from rows: formulas, and what they find."""

import copy

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import log_softmax
from sklearn.metrics import roc_auc_score

from skad.self_supervised import GOAD, ICL, LOE, NeuTraL
from skad.self_supervised._detector import REDUCTIONS, TransformationNetwork
from skad.self_supervised._goad import nearness, triplet_centre_loss
from skad.self_supervised._icl import match_losses, window_length
from skad.self_supervised._loe import anomalous_loss, exposed_loss
from skad.self_supervised._neutral import LearnedTransformations, log_contrast
from skad.self_supervised._transformations import ParallelLinear, RandomLinear

SMALL = {"max_epochs": 20, "random_state": 0}
TINY = {
    GOAD: {"n_transformations": 6, "transform_size": 8, "code_size": 4},
    ICL: {"code_size": 8, "hidden_sizes": (16,)},
    LOE: {"n_transformations": 4, "transform_size": 8, "code_size": 8},
    NeuTraL: {"n_transformations": 4, "transform_size": 8, "code_size": 8},
}
every = pytest.mark.parametrize("method", TINY, ids=lambda cls: cls.__name__)


def rows(n, seed, d=6):
    """Return rows of which the second half of the features follows the first."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d // 2))
    return np.concatenate([X, X + 0.2 * rng.normal(size=X.shape)], axis=1)


@pytest.fixture(scope="module")
def fitted():
    X = rows(200, 0)
    return {cls: cls(**{**SMALL, **tiny}).fit(X) for cls, tiny in TINY.items()}


# ----------------------------------------------------------------------- what all share


RELATIONS = {ICL: {}, NeuTraL: {}, LOE: {"outlier_fraction": 0.0}}


@pytest.mark.parametrize("method", RELATIONS, ids=lambda cls: cls.__name__)
def test_relations_of_features_are_learned(method):
    X, new = rows(300, 0), rows(200, 1)
    odd = new.copy()
    odd[:, 3:] = odd[::-1, 3:]  # every feature by itself is usual
    y, both = np.repeat([0, 1], len(new)), np.concatenate([new, odd])
    own = {**RELATIONS[method], "random_state": 0}
    trained = method(**own).fit(X).score_samples(both)
    untrained = method(**own, max_epochs=1, lr=1e-12).fit(X).score_samples(both)
    assert roc_auc_score(y, -trained) > 0.85 > roc_auc_score(y, -untrained) + 0.1


@pytest.mark.parametrize("method", [GOAD, ICL])
def test_a_map_sums_to_what_is_more_than_its_baseline_has(method, fitted):
    detector, new = fitted[method], rows(50, 1)
    found = detector.transform(new).sum(axis=1)
    if method._map_sums_to_score:
        assert_allclose(found, -detector.score_samples(new), rtol=1e-7)
        return
    mean = detector.net_.baseline.double().numpy()[None]
    more = detector.score_samples(mean) - detector.score_samples(new)
    assert_allclose(found, more, atol=0.05 * np.ptp(more))


# -------------------------------------------------------------------- transformations


def test_random_matrices_are_applied_one_by_one():
    torch.manual_seed(0)
    maps, x = RandomLinear(5, 6, 3), torch.randn(4, 2, 3)
    found = maps(x, slice(1, 4))
    for i, one in enumerate(range(1, 4)):
        expected = x.flatten(1).numpy() @ maps.matrices[one].numpy()
        assert_allclose(found[:, i], expected, rtol=1e-5, atol=1e-6)


def test_parallel_layers_are_layers_side_by_side():
    torch.manual_seed(0)
    layer, x = ParallelLinear(3, 4, 2), torch.randn(5, 3, 4)
    found = layer(x).detach().numpy()
    for i in range(3):
        assert_allclose(found[:, i], x[:, i] @ layer.weight[i].detach(), rtol=1e-5)


def evidence(b=3, n=4, seed=0):
    rng = np.random.default_rng(seed)
    return log_softmax(2 * rng.normal(size=(b, n, n)), axis=2)


def naive(measure, one):
    """Return the anomaly of one sample of evidence (n, n)."""
    n, total = len(one), 0.0
    for i in range(n):
        p = np.exp(one[i])
        if measure == "log_probability":
            total -= one[i, i]
        elif measure == "probability":
            total += 1 - p[i]
        elif measure == "entropy":
            total -= sum(p[j] * np.log(p[j]) for j in range(n))
        elif measure == "max":
            total += 1 - max(p)
        else:
            total += np.mean([(p[j] - (i == j)) ** 2 for j in range(n)])
    return total / n


class Given(TransformationNetwork):
    """Evidence that is the sample itself."""

    class Maps(torch.nn.Module):
        output_shape = (4,)

        def __len__(self):
            return 4

        def forward(self, x, which):
            return x[:, which]

    def __init__(self, measure):
        super().__init__((4, 4), self.Maps(), measure)

    def log_probabilities(self, transformed):
        return transformed


@pytest.mark.parametrize("measure", REDUCTIONS)
@pytest.mark.parametrize("together", [2**21, 24, 1])
def test_scores_are_their_formulas(measure, together, monkeypatch):
    monkeypatch.setattr("skad.self_supervised._detector._TOGETHER", together)
    x = evidence()
    found = Given(measure).anomaly(torch.as_tensor(x))
    assert_allclose(found, [naive(measure, one) for one in x])


def test_one_transformation_is_refused():
    with pytest.raises(ValueError, match="n_transformations"):
        GOAD(n_transformations=1).fit(rows(20, 0))
    with pytest.raises(ValueError, match="nothing to tell apart"):
        TransformationNetwork((4,), RandomLinear(1, 4, 4), "max")


# --------------------------------------------------------------------------------- GOAD


@pytest.mark.parametrize("floor", [0.0, 0.3])
def test_nearness_is_the_softmax_of_distances(floor):
    rng = np.random.default_rng(0)
    codes, centres = rng.normal(size=(3, 4, 2)), rng.normal(size=(4, 2))
    distances = ((codes[:, :, None] - centres) ** 2).sum(3)
    shares = np.exp(-distances) + floor
    expected = np.log(shares / shares.sum(2, keepdims=True))
    log_floor = np.log(floor) if floor else -np.inf
    found = nearness(torch.as_tensor(codes), torch.as_tensor(centres), log_floor)
    assert_allclose(found, expected, atol=1e-12)


def test_what_is_far_from_all_centres_is_undecided():
    far = 1e3 * torch.ones(1, 4, 2)
    centres = torch.tensor([[1.0, 0], [0, 1], [2, 0], [0, 3]])
    assert_allclose(nearness(far, centres, np.log(0.01)), -np.log(4), rtol=1e-5)


def test_triplet_centre_loss_is_its_loop():
    rng = np.random.default_rng(0)
    codes = rng.normal(size=(5, 3, 2))
    centres, parts = codes.mean(axis=0), []
    for sample in codes:
        for i, code in enumerate(sample):
            squares = ((code - centres) ** 2).sum(axis=1)
            parts.append(max(0, squares[i] + 1.0 - np.delete(squares, i).min()))
    found = triplet_centre_loss(torch.as_tensor(codes), 1.0)
    assert float(found) == pytest.approx(np.mean(parts))
    apart = torch.as_tensor(0.1 * codes + 9 * np.eye(3)[:, :2])
    assert float(triplet_centre_loss(apart, 1.0)) == 0


def test_goad_has_the_mean_codes_of_the_training_rows_as_centres():
    X = rows(100, 0)
    small = {**SMALL, **TINY[GOAD], "contamination": 0.1}
    detector = GOAD(**small).fit(X)
    net = detector.net_.double()
    new, scores = rows(7, 1), []
    matrices, origin = net.transforms.matrices.numpy(), net.origin.numpy()
    assert_allclose(origin, X.mean(axis=0), atol=1e-6)

    def codes(row):
        return net.encoder(torch.as_tensor((row - origin) @ matrices)).numpy()

    centres = np.mean([codes(row) for row in X], axis=0)
    assert_allclose(net.centres, centres, rtol=1e-4, atol=1e-5)
    own = [((codes(row) - net.centres.numpy()) ** 2).sum(axis=1) for row in X]
    assert float(net.log_floor) == pytest.approx(-np.mean(own), rel=1e-4)
    for row in new:
        squares = ((codes(row)[:, None] - net.centres.numpy()) ** 2).sum(axis=2)
        shares = np.exp(-squares) + np.exp(float(net.log_floor))
        scores.append(-np.log(np.diag(shares) / shares.sum(axis=1)).mean())
    assert_allclose(-detector.score_samples(new), scores)


def test_goad_does_not_mind_where_zero_is():
    X, new = rows(100, 0), rows(50, 1)
    given = {**SMALL, **TINY[GOAD]}
    scores = GOAD(**given).fit(X).score_samples(new)
    moved = GOAD(**given).fit(X + 64.0).score_samples(new + 64.0)
    assert_allclose(moved, scores, atol=0.02 * np.ptp(scores))


# ---------------------------------------------------------------------- learned views


def naive_contrast(code, views, temperature):
    """Return log probabilities of the views of one sample."""

    def h(u, v):
        cosine = u @ v / np.linalg.norm(u) / np.linalg.norm(v)
        return np.exp(cosine / temperature)

    found = []
    for i, view in enumerate(views):
        own = h(view, code)
        others = sum(h(view, other) for j, other in enumerate(views) if j != i)
        found.append(np.log(own / (own + others)))
    return found


def test_contrast_is_its_double_loop():
    rng = np.random.default_rng(0)
    codes, views = rng.normal(size=(5, 3)), rng.normal(size=(5, 4, 3))
    found = log_contrast(torch.as_tensor(codes), torch.as_tensor(views), 0.3)
    expected = [naive_contrast(*each, 0.3) for each in zip(codes, views, strict=True)]
    assert_allclose(found, expected)
    scaled = log_contrast(torch.as_tensor(7 * codes), torch.as_tensor(views), 0.3)
    assert_allclose(scaled, found)


def test_equal_views_have_an_anomaly_of_one(fitted):
    net = copy.deepcopy(fitted[NeuTraL].net_).double()
    for weights in net.transforms.parameters():
        weights.zero_()  # residual views are the row itself
    assert_allclose(net.anomaly(torch.as_tensor(rows(5, 1))), 1.0)


def test_neutral_is_its_formula(fitted):
    net, new = fitted[NeuTraL].net_.double(), rows(4, 1)
    first, last = (one.weight for one in (net.transforms.first, net.transforms.last))
    for x, score in zip(new, fitted[NeuTraL].score_samples(new), strict=True):
        views = [
            x + np.maximum(0, x @ first[i].numpy()) @ last[i].numpy() for i in range(4)
        ]
        code, *views = net.encoder(torch.as_tensor(np.array([x, *views]))).numpy()
        expected = -np.mean(naive_contrast(code, views, 0.1)) / np.log(4)
        assert -score == pytest.approx(expected)


@pytest.mark.parametrize("kind", ["residual", "multiply", "forward"])
def test_kinds_of_views(kind):
    torch.manual_seed(0)
    maps, x = LearnedTransformations(2, (3,), 5, kind), torch.randn(4, 3)
    made = maps.last(maps.first(x[:, None].expand(-1, 2, -1)).relu())
    expected = {
        "residual": x[:, None] + made,
        "multiply": x[:, None] * made.sigmoid(),
        "forward": made,
    }[kind]
    assert_allclose(maps(x).detach(), expected.detach(), rtol=1e-6)


def test_the_map_is_what_each_feature_at_its_mean_takes_away(fitted):
    detector, new = fitted[NeuTraL], rows(4, 1)
    for i, mean in enumerate(rows(200, 0).mean(axis=0)):
        usual = new.copy()
        usual[:, i] = detector.net_.baseline[i]
        assert abs(mean - float(detector.net_.baseline[i])) < 0.2
        expected = detector.score_samples(usual) - detector.score_samples(new)
        assert_allclose(detector.transform(new)[:, i], expected, atol=1e-12)


def test_losses_of_anomalies():
    p = np.array([[0.2, 0.5, 0.9], [0.1, 0.1, 1.0]])
    found = anomalous_loss(torch.as_tensor(np.log(p)))
    expected = -np.log(np.maximum(1 - p, 1e-6)).mean(axis=1) / np.log(3)
    assert_allclose(found, expected)


def test_rows_are_taken_for_anomalies_where_that_is_the_better_deal():
    normal = torch.tensor([1.0, 5.0, 3.0, 2.0])
    anomalous = torch.tensor([4.0, 4.9, 1.0, 3.0])  # gains -3, .1, 2, -1
    for n_outliers, how, expected in [
        (0, "hard", 11 / 4),
        (1, "hard", (1 + 5 + 1 + 2) / 4),
        (1, "soft", (1 + 5 + 2 + 2) / 4),
        (2, "hard", (1 + 4.9 + 1 + 2) / 4),
        (4, "hard", 12.9 / 4),
        (1, "refine", 6 / 3),  # without the largest loss
    ]:
        found = exposed_loss(normal, anomalous, n_outliers, how)
        assert float(found) == pytest.approx(expected), (n_outliers, how)


def test_loe_without_outliers_is_neutral():
    X, own = rows(60, 0), {**SMALL, **TINY[NeuTraL], "max_epochs": 4}
    found = LOE(**own, outlier_fraction=0.0).fit(X).score_samples(X)
    assert_array_equal(found, NeuTraL(**own).fit(X).score_samples(X))


def test_loe_bears_anomalies_in_training():
    X, new = rows(300, 0), rows(200, 1)
    X[:30, 3:] *= -1
    odd = new * np.repeat([1, -1], 3)
    y, both = np.repeat([0, 1], len(new)), np.concatenate([new, odd])
    found = {
        how: roc_auc_score(y, -detector.fit(X).score_samples(both))
        for how, detector in [
            ("blind", NeuTraL(random_state=0)),
            ("soft", LOE(random_state=0)),
            ("hard", LOE(random_state=0, contamination_training="hard")),
        ]
    }
    assert found["soft"] > found["blind"], found
    assert found["hard"] > found["blind"], found


# ---------------------------------------------------------------------------------- ICL


def naive_matches(rests, windows, temperature):
    """Return the losses of one row's windows."""

    def likeness(u, v):
        return u @ v / np.linalg.norm(u) / np.linalg.norm(v) / temperature

    found = []
    for i, rest in enumerate(rests):
        shares = np.exp([likeness(rest, window) for window in windows])
        found.append(-np.log(shares[i] / shares.sum()))
    return found


def test_matches_are_their_double_loop():
    rng = np.random.default_rng(0)
    rests, windows = rng.normal(size=(2, 3, 4, 5))
    found = match_losses(torch.as_tensor(rests), torch.as_tensor(windows), 0.2)
    expected = [naive_matches(*each, 0.2) for each in zip(rests, windows, strict=True)]
    assert_allclose(found, expected)
    same = torch.as_tensor(rests[:, :1]).expand(-1, 4, -1)
    assert_allclose(match_losses(same, same, 0.2), np.log(4))


def test_icl_is_the_mean_over_windows_and_the_map_their_shares(fitted):
    detector, new = fitted[ICL], rows(4, 1)
    net, size = detector.net_.double(), 2
    starts = range(6 - size + 1)
    windows = [new[:, i : i + size] for i in starts]
    rests = [np.delete(new, range(i, i + size), axis=1) for i in starts]
    rests, windows = (torch.as_tensor(np.stack(x, axis=1)) for x in (rests, windows))
    codes = net.of_rests(rests).numpy(), net.of_windows(windows).numpy()
    for n, score in enumerate(detector.score_samples(new)):
        losses = naive_matches(codes[0][n], codes[1][n], 0.01)
        assert -score == pytest.approx(np.mean(losses), rel=1e-6, abs=1e-9)
        parts = np.zeros(6)
        for i in starts:
            parts[i : i + size] += losses[i] / len(losses) / size
        assert_allclose(detector.transform(new)[n], parts, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(
    ("d", "length"),
    [(2, 1), (3, 2), (40, 2), (41, 10), (160, 10), (200, 50), (300, 100), (784, 384)],
)
def test_window_lengths_are_the_authors_steps(d, length):
    assert window_length(d) == length


@pytest.mark.parametrize(("size", "d", "least"), [("auto", 1, 2), (3, 3, 4)])
def test_a_window_leaves_features_out(size, d, least):
    with pytest.raises(ValueError, match=rf"at least {least} features, got n_feat"):
        ICL(window_size=size).fit(np.random.default_rng(0).normal(size=(20, d)))


def test_icl_ends_when_nothing_is_left_to_learn(fitted):
    net = fitted[ICL].net_
    assert net.is_learned("fit", 9e-4)
    assert not net.is_learned("fit", 2e-3)
