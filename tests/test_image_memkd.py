"""MemKD: memories, what they recall, and what exemplars are to recall."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from sklearn.base import clone
from torch.nn import functional as F  # noqa: N812

from skad.image import MemKD, ReverseDistillation
from skad.image.student._memkd import MemKDNetwork
from skad.nn.memory import RecallMemory
from tests.test_image_networks import GRID, as_batch, pictures

SMALL = {"max_epochs": 2, "batch_size": 4, "random_state": 0, "smoothing": 0}
SHAPES = [(4, 8, 8), (6, 4, 4), (8, 2, 2)]


pytestmark = pytest.mark.usefixtures("own_generator")


def network(**others):
    given = {"n_items": 5, "n_exemplars": 3}
    given |= {"normality_weight": 0.3, "orthogonal_weight": 0.2, **others}
    sizes = SHAPES, (8, 8), (1, 1, 1, 1), None, True
    return MemKDNetwork(sizes, **given).double().eval()


def samples(n):
    return torch.randn(n, sum(c * h * w for c, h, w in SHAPES)).double()


def cosines(a, b):
    return F.cosine_similarity(a, b, dim=1)


@pytest.mark.parametrize("by", ["keys", "values"])
def test_a_place_recalls_values_by_their_cosines(by):
    memory, x = RecallMemory(5, 3).double(), torch.randn(2, 3, 4, 6).double()
    found = memory(x, by).detach()
    items, values = (getattr(memory, name).detach().numpy() for name in (by, "values"))
    for b, i, j in np.ndindex(2, 4, 6):
        place = x[b, :, i, j].numpy()
        lengths = np.linalg.norm(items, axis=1) * np.linalg.norm(place)
        weights = np.exp(items @ place / lengths)
        assert_allclose(found[b, :, i, j], weights @ values / weights.sum())
    assert_allclose(memory(7 * x, by).detach(), found)


def test_one_item_recalls_itself():
    memory, x = RecallMemory(1, 3), torch.randn(2, 3, 4, 6)
    value = memory.values.detach()[0][:, None, None].expand(2, 3, 4, 6)
    assert_allclose(memory(x).detach(), value, rtol=1e-6)


def test_orthogonal_keys_and_values_do_not_overlap():
    memory = RecallMemory(2, 4).double()
    with torch.no_grad():
        memory.keys.copy_(torch.eye(4)[:2])
        memory.values.copy_(3 * torch.eye(4)[2:])
        assert memory.overlap() == 0
        memory.values[0] = torch.tensor([-2.0, 0, 0, 0])
        # one of four pairs is opposite
        assert memory.overlap() == 0.25


def test_each_stage_sees_a_map_and_what_it_recalls():
    net, x = network(), samples(3)
    seen = []
    for stage in net.decoder.stages:
        stage.register_forward_hook(lambda module, given, out: seen.append(given[0]))
    pairs = net.pairs(x)
    rebuilt = [made for _, made in pairs][::-1]  # the deepest first
    code = net.bottleneck([teacher for teacher, _ in pairs])
    assert len(net.decoder.memories) == 3
    said = [code, *rebuilt[:2]]
    for given, memory, each in zip(seen, net.decoder.memories, said, strict=True):
        mine, recalled = given.chunk(2, 1)
        assert mine.shape == each.shape
        assert_allclose(recalled.detach(), memory(each).detach())
    assert_allclose(seen[0][:, : code.shape[1]].detach(), code.detach())


def test_the_loss_is_the_papers():
    net, x = network(), samples(4)
    net.exemplars = samples(3)
    loss = 0.0
    for teacher, made in net.pairs(x):
        apart = F.normalize(teacher, dim=1) - F.normalize(made, dim=1)  # some are 0
        loss = loss + apart.square().sum(1).mean() / 2
    sizes = [c * h * w for c, h, w in SHAPES]
    maps = [
        part.unflatten(1, shape)
        for part, shape in zip(net.exemplars.split(sizes, 1), SHAPES, strict=True)
    ]
    known = [net.bottleneck(maps), maps[2], maps[1]]
    for memory, each in zip(net.decoder.memories, known, strict=True):
        loss = loss + 0.3 * (1 - cosines(each, memory(each, by="values")).mean())
        square = cosines(memory.keys[:, :, None], memory.values.T[None]) ** 2
        loss = loss + 0.2 * square.mean()
    assert_allclose(net.loss(x, None).item(), loss.item())
    net.loss(x, None).backward()
    for memory in net.decoder.memories:
        assert memory.keys.grad.abs().sum() > 0
        assert memory.values.grad.abs().sum() > 0


def test_exemplars_are_drawn_from_all_training_pictures():
    net = network(n_exemplars=4)
    x = samples(10)
    counts = np.zeros(10)
    for _ in range(200):
        net.begin("fit", lambda: [(x[:6], None), (x[6:], None)])
        which = [(x == one).all(1).nonzero().item() for one in net.exemplars]
        assert len(set(which)) == 4
        counts[which] += 1
    assert abs(counts / 200 - 0.4).max() < 0.13
    net.begin("fit", lambda: [(x[:3], None)])
    assert_allclose(net.exemplars, x[:3])


@pytest.fixture(scope="module")
def good():
    return pictures(20)


def test_memories_without_a_say_leave_reverse_distillation(good):
    plain = ReverseDistillation(**SMALL, **GRID).fit(good)
    detector = MemKD(**SMALL, **GRID, n_items=3).fit(good)
    net, other = detector.net_.double(), plain.net_.double()
    assert len(net.exemplars) == 0  # and takes no memory
    net.bottleneck.load_state_dict(other.bottleneck.state_dict())
    state = other.decoder.state_dict()
    own = net.decoder.state_dict()
    for name, value in own.items():
        if name in state and state[name].shape != value.shape:
            # what is recalled is not looked at; a transposed one has its input first
            axis = 0 if value.shape[0] == 2 * state[name].shape[0] else 1
            wide = torch.zeros_like(value)
            wide.narrow(axis, 0, state[name].shape[axis]).copy_(state[name])
            own[name] = wide
        elif name in state:
            own[name] = state[name]
    net.decoder.load_state_dict(own)
    x = detector._describe(as_batch(good[:4]))
    assert_allclose(net.map(x), other.map(x), rtol=1e-6, atol=1e-9)


def test_keys_and_values_are_trained(good):
    first = MemKD(**SMALL, **GRID, n_items=3).fit(good)
    later = clone(first).set_params(max_epochs=4).fit(good)
    for one, other in zip(
        first.net_.decoder.memories, later.net_.decoder.memories, strict=True
    ):
        assert not torch.equal(one.keys, other.keys)
        assert not torch.equal(one.values, other.values)
