"""RSTPM: gates, a student that rebuilds, its losses and the map."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from torch.nn import functional as F  # noqa: N812

from skad.embedding import PatchEmbedding
from skad.image import RSTPM, STFPM
from skad.image.student._rstpm import Gate, Rebuilder, RSTPMNetwork
from skad.nn.residual import Pyramid
from tests.test_image_networks import GRID, as_batch, pictures

SMALL = {"max_epochs": 2, "batch_size": 4, "random_state": 0}
SHAPES = [(1, 16, 16), (4, 8, 8), (6, 4, 4), (3, 8, 8), (5, 4, 4)]


pytestmark = pytest.mark.usefixtures("own_generator")


def network(shapes=SHAPES):
    n = len(shapes) // 2
    student = Pyramid(shapes[0], shapes[1 : n + 1], (4, 8))
    return RSTPMNetwork(student, shapes, 1, True).double().eval()


def samples(n, shapes=SHAPES):
    return torch.randn(n, sum(c * h * w for c, h, w in shapes)).double()


def split(x, shapes=SHAPES):
    parts = x.split([c * h * w for c, h, w in shapes], 1)
    return [part.unflatten(1, shape) for part, shape in zip(parts, shapes, strict=True)]


def apart(a, b):
    return (F.normalize(a, dim=1) - F.normalize(b, dim=1)).square().sum(1) / 2


def test_a_gate_is_between_zero_and_one_at_each_place():
    x = torch.randn(2, 5, 4, 6)
    found = Gate(5).eval()(x)
    assert found.shape == (2, 1, 4, 6)
    assert (found > 0).all() & (found < 1).all()
    assert len(found.unique()) > 20


class Fixed(torch.nn.Module):
    def __init__(self, value):
        super().__init__()
        self.value = value

    def forward(self, x):
        return torch.full_like(x[:, :1], self.value)


def test_the_first_gate_is_all_that_goes_on_and_others_add():
    shapes = [(3, 16, 16), (4, 8, 8), (5, 4, 4)]
    rebuilder = Rebuilder((6, 4, 4), shapes, 1, True).double().eval()
    maps = [torch.randn(2, *shape).double() for shape in shapes]
    deepest = torch.randn(2, 6, 4, 4).double()
    decoder, seen, out = rebuilder.decoder, [], []

    def look(module, given, made):
        seen.append(given[0])
        out.append(made)

    for stage in decoder.stages:
        stage.register_forward_hook(look)
    rebuilder(deepest, maps)
    assert seen[0].shape == (2, 12, 2, 2)  # half the grid, twice the channels
    first, second = decoder.gates[0](maps[2]), decoder.gates[1](maps[1])
    assert_allclose(seen[1].detach(), (first * out[0]).detach())
    assert_allclose(seen[2].detach(), (out[1] + second * out[1]).detach())
    decoder.gates = torch.nn.ModuleList([Fixed(0.5), Fixed(0.0)])
    seen.clear()
    out.clear()
    rebuilder(deepest, maps)
    assert_allclose(seen[1].detach(), out[0].detach() / 2)
    assert_array_equal(seen[2].detach(), out[1].detach())


def test_maps_come_back_in_their_order():
    shapes = [(5, 4, 4), (3, 16, 16), (4, 8, 8)]
    rebuilder = Rebuilder((6, 4, 4), shapes, 1, False).eval()
    maps = [torch.rand(2, *shape) for shape in shapes]
    found = rebuilder(torch.rand(2, 6, 4, 4), maps)
    assert [tuple(each.shape[1:]) for each in found] == shapes
    assert all((each >= 0).all() for each in found)  # of a rectified teacher
    row = Rebuilder((6, 1, 5), [(3, 1, 9)], 1, True).eval()
    assert row(torch.rand(2, 6, 1, 5), [torch.rand(2, 3, 1, 9)])[0].shape[2:] == (1, 9)


def test_losses_and_the_map_are_the_papers():
    net, x = network(), samples(3)
    picture, *maps = split(x)
    first = [apart(*p) for p in zip(maps[:2], net.student(picture), strict=True)]
    # the deepest of the first teacher is what the second student starts from
    rebuilt = net.rebuilder(maps[1], maps[2:])
    second = [apart(*p) for p in zip(maps[2:], rebuilt, strict=True)]
    losses = dict(net.updates("fit", x, None))
    assert_allclose(losses["student"].item(), sum(d.mean() for d in first).item())
    assert_allclose(losses["rebuilder"].item(), sum(d.mean() for d in second).item())
    assert_allclose(net.loss(x, None).item(), sum(losses.values()).item())
    expected = 1.0
    for a, b in zip(first, second, strict=True):
        wide = [
            F.interpolate(d[:, None], (16, 16), mode="bilinear")[:, 0] for d in (a, b)
        ]
        expected = expected * sum(wide)
    assert_allclose(net.map(x).detach(), expected.detach())


def test_each_student_learns_from_its_own_loss():
    net, x = network(), samples(4)
    for name, loss in net.updates("fit", x, None):
        net.zero_grad()
        loss.backward()
        for other in ("student", "rebuilder"):
            grads = [p.grad for p in getattr(net, other).parameters()]
            assert any(g is not None and g.any() for g in grads) == (name == other)
    weights = {name: list(each) for name, each in net.groups("fit").items()}
    assert sum(map(len, weights.values())) == len(list(net.parameters()))


@pytest.fixture(scope="module")
def good():
    return pictures(16)


def test_the_first_pair_is_stfpm(good):
    other = PatchEmbedding("gabor", ("scale2", "scale3"))
    given = {**GRID, **SMALL, "student_channels": (4, 8)}
    detector = RSTPM(other=other, **given).fit(good)
    plain = STFPM(**given).fit(good)
    net, single = detector.net_.double(), plain.net_.double()
    net.student.load_state_dict(single.student.state_dict())
    x = detector._describe(as_batch(good[:3]))
    y = plain._describe(as_batch(good[:3]))
    for one, same in zip(net.distances(x)[0], single.distances(y), strict=True):
        assert_allclose(one.detach(), same.detach(), rtol=1e-6, atol=1e-9)
    maps = detector.other_.feature_maps(as_batch(good[:3]))
    flat = torch.cat([each.flatten(1) for each in maps], 1)
    assert_allclose(x[:, y.shape[1] :], flat, atol=1e-6)


def test_networks_need_as_many_layers(good):
    with pytest.raises(ValueError, match="other has 1 layers"):
        RSTPM(other=PatchEmbedding("gabor", ("scale2",)), **GRID, **SMALL).fit(good)


def test_it_finds_a_square(good):
    bad = pictures(4, seed=3)
    bad[:, 8:16, 16:24] = 0.9
    detector = RSTPM(
        layers=("scale1", "scale2"),
        student_channels=(16, 32),
        max_epochs=10,
        batch_size=4,
        contamination=0.1,
        random_state=0,
    ).fit(good)
    maps = detector.transform(bad)
    inside = maps[:, 8:16, 16:24].mean((1, 2))
    assert (inside > 3 * np.median(maps, (1, 2))).all()
