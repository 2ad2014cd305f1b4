"""RSTDN: what reads the maps of two pairs, where it learns, and the map."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from torch.nn import functional as F  # noqa: N812

from skad.embedding import PatchEmbedding
from skad.image import RSTDN
from tests.test_image_networks import GRID, as_batch, pictures

pytestmark = pytest.mark.usefixtures("own_generator")
SMALL = RSTDN(
    **GRID,
    other=PatchEmbedding("gabor", ("scale1", "scale2")),
    student_channels=(8, 16),
    n_blocks=1,
    discriminator_width=2,
    student_epochs=1,
    max_epochs=1,
    batch_size=4,
    discriminator_lr=0.003,
    random_state=0,
)


class Known(torch.nn.Module):
    """Alters one square."""

    def forward(self, x):
        mask = torch.zeros(len(x), *x.shape[2:], dtype=torch.bool)
        mask[:, 4:12, 8:20] = True
        return torch.where(mask[:, None], 0.9, x), mask


@pytest.fixture(scope="module")
def good():
    return pictures(8)


@pytest.fixture
def network(good):
    """Return a trained network in float64 that alters one square, and samples."""
    detector = clone(SMALL).fit(good)
    net = detector.net_.double().eval()
    net.corruption = Known()
    return net, detector._describe(as_batch(good[:3])).double()


def direction_apart(a, b):
    return (F.normalize(a, dim=1) - F.normalize(b, dim=1)).square().sum(1) / 2


def sums(net, x):
    """Return the sums (l, b, 32, 32) of both pairs' distances, of pictures."""
    first, second = net.teacher(x), net.other(x)
    imitated = net.student(net.teacher.normalised(x))
    rebuilt = net.rebuilder(first[1], second)  # from the deepest
    found = []
    for own in zip(first, imitated, second, rebuilt, strict=True):
        wide = [
            F.interpolate(direction_apart(*pair)[:, None], (32, 32), mode="bilinear")
            for pair in (own[:2], own[2:])
        ]
        found.append(sum(wide)[:, 0])
    return torch.stack(found)


def test_it_reads_the_sums_of_both_pairs_of_altered_pictures(network):
    net, x = network
    picture = x[:, : 32 * 32].view(3, 1, 32, 32)
    seen, mask = Known()(picture)
    layers = sums(net, seen)
    assert layers.shape == (2, 3, 32, 32)
    expected = net.discriminator(layers.transpose(0, 1))[:, 0]
    logits, labels = net.altered(x)
    assert_allclose(logits.detach(), expected.detach(), atol=1e-9)
    assert_array_equal(labels, mask)
    p = expected.sigmoid()
    right = torch.where(mask, p, 1 - p)
    loss = (-((1 - right) ** 2) * right.log()).mean().item()
    ((group, found),) = net.updates("discriminator", x, None)
    assert group == "discriminator"
    assert found.item() == pytest.approx(loss)
    assert net.watched("discriminator", x, None).item() == pytest.approx(loss)


def test_the_map_is_the_product_of_layers_and_of_what_is_read(network):
    net, x = network
    layers = sums(net, x[:, : 32 * 32].view(3, 1, 32, 32))
    said = net.discriminator(layers.transpose(0, 1))[:, 0].sigmoid()
    expected = layers[0] * layers[1] * said
    assert_allclose(net.map(x).detach(), expected.detach(), rtol=1e-4)


def test_students_learn_first_and_then_stay(good):
    one, more = (clone(SMALL).set_params(max_epochs=n).fit(good).net_ for n in (1, 3))
    for part in ("student", "rebuilder"):
        for name, weight in getattr(one, part).state_dict().items():
            assert_array_equal(weight, getattr(more, part).state_dict()[name], name)
    assert not torch.equal(
        one.discriminator.last.weight, more.discriminator.last.weight
    )
    other = clone(SMALL).set_params(student_epochs=3).fit(good).net_
    for part in ("student", "rebuilder"):
        pairs = (getattr(net, part).parameters() for net in (one, other))
        assert not all(torch.equal(*pair) for pair in zip(*pairs, strict=True))
    parts = [*one.groups("students"), *one.groups("discriminator")]
    assert parts == ["student", "rebuilder", "discriminator"]
    kept = [
        (SMALL._optimizer_of(phase, phase) or {"lr": SMALL.lr})["lr"]
        for phase in ("students", "discriminator")
    ]
    assert kept == [0.4, 0.003]


def test_half_of_the_pictures_stay_as_they_are(good):
    net = clone(SMALL).fit(good).net_
    picture = torch.rand(200, 1, 16, 16)
    seen, mask = net.corruption(picture)
    altered = mask.flatten(1).any(1)
    assert 0.35 < altered.float().mean() < 0.65
    assert torch.equal(seen[~altered], picture[~altered])


def test_norms_settle_before_the_second_training(good):
    detector = clone(SMALL).set_params(batch_size=8, contamination=0.1).fit(good)
    net, x = detector.net_, detector._describe(as_batch(good)).float()
    picture = x[:, : 32 * 32].view(-1, 1, 32, 32)
    made, norm = net.student.stages[0][0]
    seen = made(net.teacher.normalised(picture))
    assert_allclose(norm.running_mean, seen.mean((0, 2, 3)).detach(), 1e-3, 1e-5)


def test_it_finds_what_it_never_saw(good):
    X = pictures(20)
    bad = X[:4].copy()
    bad[:, 8:16, 16:24] = 0.9
    detector = clone(SMALL).set_params(
        student_epochs=10, max_epochs=10, discriminator_width=8
    )
    detector.fit(X)
    new = pictures(6, seed=1)
    assert detector.score_samples(bad).max() < detector.score_samples(new).min()
    for each in detector.transform(bad):
        row, column = np.unravel_index(each.argmax(), each.shape)
        assert 6 <= row <= 17
        assert 14 <= column <= 25
