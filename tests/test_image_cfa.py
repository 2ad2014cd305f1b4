"""CFA: features adapted to centres that stay where they were at first."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy.spatial.distance import cdist
from sklearn.base import clone
from skorch.callbacks import Callback

from skad.image import CFA
from skad.image.memory._cfa import hinges, softmin_nearest


class Squares(torch.nn.Module):
    """A backbone that says what is in squares of 4 x 4 pixels."""

    def __init__(self):
        super().__init__()
        self.first = torch.nn.PixelUnshuffle(4)

    def forward(self, x):
        return self.first(x)


GIVEN = {
    "backbone": Squares,
    "layers": ("first",),
    "neighborhood": 1,
    "smoothing": 0,
    "random_state": 0,
}
# A training that leaves the weights as they are drawn.
STILL = {"lr": 1e-30, "weight_decay": 0.0, "max_epochs": 1, "contamination": 0.5}


def pictures(n, seed=0, size=(20, 24)):
    """Return pictures (n, h, w) of one texture with noise."""
    rng = np.random.default_rng(seed)
    texture = np.random.default_rng(9).normal(0.5, 0.1, size=size)
    return texture + rng.normal(0, 0.02, size=(n, *size))


def as_batch(X):
    return torch.tensor(X)[..., None]


def adapted(detector, X):
    """Return the features (n, gh, gw, d) that the layer makes, place by place."""
    layer = detector.net_.adaptor
    weight, bias = (
        each.detach().double().numpy() for each in (layer.weight, layer.bias)
    )
    features = detector.embedding_.embed(as_batch(X)).numpy()
    _, height, width, _ = features.shape
    found = np.empty((*features.shape[:3], len(weight)))
    for i, row, column in np.ndindex(features.shape[:3]):
        place = 2 * row / (height - 1) - 1, 2 * column / (width - 1) - 1
        found[i, row, column] = weight @ [*features[i, row, column], *place] + bias
    return found


def centers(detector):
    return detector.net_.centers.double().numpy()


@pytest.mark.parametrize("reduction", [1, 3])
@pytest.mark.parametrize("radius", [0.05, 2.0])
def test_the_loss_is_the_plain_loop(radius, reduction):
    """With a radius beyond which all is attracted, and one within which is repelled."""
    settings = {"n_repelled": 2, "margin": 0.3, "feature_reduction": reduction}
    detector = CFA(**GIVEN, **settings, max_epochs=2).fit(pictures(12))
    X = pictures(3, 1)
    distances = cdist(
        adapted(detector, X).reshape(-1, 16 // reduction), centers(detector)
    )
    attraction, repulsion = [], []
    for row in np.sort(distances, axis=1):
        attraction += [max(0, d**2 - radius**2) for d in row[:3]]
        repulsion += [max(0, radius**2 - d**2 - 0.3) for d in row[3:5]]
    assert (np.mean(repulsion) > 0) == (radius == 2)
    network = detector.net_.double()
    network.radius.fill_(radius)
    found = network.loss(detector._describe(as_batch(X)), None)
    assert_allclose(found, 1000 * (np.mean(attraction) + np.mean(repulsion)), rtol=1e-7)


def test_gradients_are_those_of_all_distances():
    """The search for the nearest has none, their distances have."""
    detector = CFA(**GIVEN, max_epochs=1).fit(pictures(12))
    network = detector.net_.double().requires_grad_(True)
    network.radius.data.fill_(1.0)
    x = detector._describe(as_batch(pictures(3, 1)))
    known = dict(network.named_parameters())
    assert set(known) == {"adaptor.weight", "adaptor.bias", "radius"}
    found = torch.autograd.grad(network.loss(x, None), known.values())
    squares = (network.adapted(x).flatten(0, 2)[:, None] - network.centers).square()
    near = squares.sum(2).sort(1).values
    loss = (near[:, :3] - network.radius**2).clamp(min=0).mean()
    loss = loss + (network.radius**2 - near[:, 3:6] - 0.1).clamp(min=0).mean()
    expected = torch.autograd.grad(1000 * loss, known.values())
    for one, other in zip(found, expected, strict=True):
        assert one.abs().max() > 0
        assert_allclose(one, other, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("k", [1, 3, 1000])
def test_the_map_is_the_plain_loop(k):
    """The nearest distance by its softmin; with one neighbour that distance."""
    X = pictures(3, 1)
    detector = CFA(**GIVEN, n_neighbors=k, max_epochs=2).fit(pictures(12))
    distances = cdist(adapted(detector, X).reshape(-1, 16), centers(detector))
    expected = []
    for row in np.sort(distances, axis=1):
        expected.append(row[0] * np.exp(-row[0]) / np.exp(-row[:k]).sum())
    if k == 1:
        assert_allclose(expected, distances.min(axis=1))
    found = detector.net_.double().map(detector._describe(as_batch(X)))
    assert found.shape == (3, 5, 6)
    assert_allclose(found.ravel(), expected, rtol=1e-5)
    maps = detector.transform(X)
    assert maps.shape == X.shape
    assert_allclose(-detector.score_samples(X), maps.max(axis=(1, 2)))


def test_nothing_is_lost_once_all_neighbours_are_within_the_radius():
    squares = torch.tensor([[0.1, 0.2, 0.25, 0.26], [0.0, 0.0, 0.2, 9.0]])
    attraction, repulsion = hinges(squares, torch.tensor(0.5), 3, 0.1)
    assert attraction == repulsion == 0
    attraction, repulsion = hinges(squares, torch.tensor(0.45), 3, 0.0)
    assert_allclose(attraction, (0.25 - 0.45**2) / 6, rtol=1e-5)
    assert repulsion == 0
    _, repulsion = hinges(squares, torch.tensor(1.0), 3, 0.1)
    assert_allclose(repulsion, (1 - 0.26 - 0.1) / 2, rtol=1e-5)
    assert hinges(squares[:, :3], torch.tensor(1.0), 3, 0.1)[1] == 0


def test_softmin_of_one_and_of_equal_distances():
    assert softmin_nearest(torch.tensor([[2.0]])) == 2
    assert_allclose(softmin_nearest(torch.tensor([[3.0, 3.0, 3.0]])), 1)
    assert_allclose(softmin_nearest(torch.tensor([[1.0, 90.0]])), 1)


@pytest.mark.parametrize("batch_size", [3, 5, 12])
def test_centres_are_means_of_places_before_the_training(batch_size, monkeypatch):
    # no more pictures at once where nothing is trained
    monkeypatch.setattr("skad.image._trained._SCORED_ELEMENTS", 1)
    X = pictures(12)
    still = CFA(**GIVEN, **STILL).set_params(batch_size=batch_size).fit(X)
    means = adapted(still, X).mean(axis=0).reshape(-1, 16)
    assert_allclose(centers(still), means, rtol=1e-4, atol=1e-5)
    trained = clone(still).set_params(lr=0.01, max_epochs=4).fit(X)
    assert_array_equal(centers(trained), centers(still))
    assert np.abs(adapted(trained, X) - adapted(still, X)).max() > 0.01


def test_pictures_that_are_held_out_are_not_in_the_centres():
    X = pictures(30)
    detector = CFA(**GIVEN, **STILL).set_params(contamination="auto").fit(X)
    _, kept = detector._split(30, None)
    assert len(kept) == 30 - detector.n_held_out_ < 30
    for rows, same in ((kept, True), (np.arange(30), False)):
        means = adapted(detector, X[rows]).mean(axis=0).reshape(-1, 16)
        assert (np.abs(centers(detector) - means).max() < 1e-5) == same


def test_fewer_centres_are_k_means_of_the_means():
    X = pictures(12)
    means = centers(CFA(**GIVEN, **STILL).fit(X))
    found = centers(CFA(**GIVEN, **STILL, center_reduction=4).fit(X))
    assert found.shape == (30 // 4, 16)
    nearest = cdist(means, found).argmin(axis=1)
    for i, center in enumerate(found):
        assert_allclose(center, means[nearest == i].mean(axis=0), rtol=1e-4, atol=1e-5)
    again = centers(CFA(**GIVEN, **STILL, center_reduction=4).fit(X))
    assert_array_equal(again, found)


def test_patches_of_the_one_picture_are_centres_wherever_they_are():
    """Where the layer leaves features as they are and does not look at the place."""
    X = pictures(1)
    detector = CFA(**GIVEN, **STILL).fit(X)
    network, x = detector.net_.double(), detector._describe(as_batch(X))
    network.adaptor.weight.copy_(torch.eye(16, 18))
    network.adaptor.bias.zero_()
    network.centers.zero_()
    network.begin("fit", lambda: iter([(x, None)]))
    assert_allclose(network.map(x), 0, atol=1e-12)
    turned = detector._describe(as_batch(np.roll(X, (8, 12), axis=(1, 2))))
    assert_allclose(network.map(turned), 0, atol=1e-12)
    assert network.map(detector._describe(as_batch(pictures(1, 1)))).min() > 0


def test_training_brings_all_neighbours_nearer_and_finds_the_square():
    X, new = pictures(30), pictures(10, 1)
    before, after = (
        CFA(**GIVEN).set_params(**given).fit(X) for given in (STILL, {"max_epochs": 30})
    )
    third = [
        np.sort(cdist(adapted(one, new).reshape(-1, 16), centers(one)))[:, 2].mean()
        for one in (before, after)
    ]
    assert third[1] < 0.9 * third[0]
    losses = [row["train_loss"] for row in after.history_]
    assert losses[-1] < 0.5 * losses[0]
    bad = new.copy()
    bad[:, 8:12, 8:12] += 0.3
    assert (after.predict(bad) == -1).all()
    assert (after.predict(new) == -1).mean() <= 0.3
    for each in after.transform(bad):
        row, column = np.unravel_index(each.argmax(), each.shape)
        assert 8 <= row <= 11
        assert 8 <= column <= 11


def test_a_warm_start_keeps_the_centres():
    detector = CFA(**GIVEN, max_epochs=2, warm_start=True).fit(pictures(12))
    known, weight = centers(detector), detector.net_.adaptor.weight.clone()
    detector.fit(pictures(12, 5))
    assert_array_equal(centers(detector), known)
    assert (detector.net_.adaptor.weight != weight).any()


@pytest.mark.parametrize(("size", "m"), [((4, 4), 1), ((4, 16), 4)])
def test_fewer_centres_than_neighbours(size, m):
    X = pictures(8, size=size)
    detector = CFA(**GIVEN, max_epochs=1).fit(X)
    assert centers(detector).shape == (m, 16)
    assert np.isfinite(detector.score_samples(X)).all()
    if m == 1:
        network, x = detector.net_, detector._describe(as_batch(X)).float()
        distance = (network.adapted(x) - network.centers[0]).norm(dim=3)
        assert_allclose(network.map(x), distance, rtol=1e-5)


def test_the_optimizer_is_the_papers():
    class Record(Callback):
        seen = []

        def on_train_begin(self, net, **parameters):
            Record.seen.append(net.optimizer_)

    CFA(**GIVEN, max_epochs=1, callbacks=[Record()]).fit(pictures(6))
    optimizer = Record.seen[0]
    assert isinstance(optimizer, torch.optim.AdamW)
    known = {"amsgrad": True, "lr": 1e-3, "weight_decay": 5e-4}
    assert known.items() <= optimizer.defaults.items()
    CFA(**GIVEN, max_epochs=1, optimizer="sgd", lr=1e-5).fit(pictures(6))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"n_neighbors": 0}, "n_neighbors"),
        ({"n_repelled": -1}, "n_repelled"),
        ({"margin": -0.1}, "margin"),
        ({"radius": 0.0}, "radius"),
        ({"feature_reduction": 0}, "feature_reduction"),
        ({"center_reduction": 0}, "center_reduction"),
        ({"neighborhood": 2}, "neighborhood=2 must be odd"),
    ],
)
def test_wrong_parameters(given, message):
    with pytest.raises(ValueError, match=message):
        CFA(**GIVEN | given).fit(pictures(3))
