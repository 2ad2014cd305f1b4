"""GCAD: its losses and maps, the code that all goes through, and parts too many."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from scipy.ndimage import gaussian_filter
from sklearn.base import clone
from sklearn.metrics import roc_auc_score
from torch.nn import functional

from skad.image import GCAD
from skad.image.student._gcad import GCADNetwork
from skad.nn.description import ContextNetwork
from skad.nn.unet import PooledUNet
from tests.test_image_networks import as_batch, pictures

SMALL = GCAD(
    patch_sizes=(17, 33),
    channels=5,
    width=4,
    code_size=3,
    global_channels=2,
    global_width=4,
    student_width=4,
    teacher_epochs=2,
    max_epochs=10,
    batch_size=8,
    lr=0.003,
    random_state=0,
)


pytestmark = pytest.mark.usefixtures("own_generator")


@pytest.fixture(scope="module")
def good():
    return pictures(20)


def said_of(network, X):
    """Yield what teacher, student, code and second student say, of each size."""
    x = torch.tensor(2 * X[:, None] - 1)
    for teacher, scale, own in zip(
        network.teachers, network.scales, network.students, strict=True
    ):
        mean, std = (each.numpy()[:, None, None] for each in (scale.mean, scale.std))
        taught = (teacher(x).numpy() - mean) / std
        few = own.context(x)
        yield (
            taught,
            own.local_student(x).numpy(),
            few.numpy(),
            own.context_student(x).numpy(),
            own.wide(few).numpy(),
        )


# --------------------------------------------------------------------------- the method


def test_the_map_is_the_papers_formula(good, monkeypatch):
    seen, finish = [], GCADNetwork.finish

    def noting(network, batches, held):
        seen.extend(x for x, _ in held())
        finish(network, batches, held)

    monkeypatch.setattr(GCADNetwork, "finish", noting)
    detector = clone(SMALL).fit(good)
    network = detector.net_.double()
    held = torch.cat(seen).double().reshape(-1, 32, 32).numpy()
    assert len(held) == detector.n_held_out_ == 5

    expected = 0
    both = (said_of(network, held), said_of(network, good[:3]))
    for normal, new in zip(*both, strict=True):
        for i in (0, 2):
            calm, found = (
                np.sqrt(((each[i] - each[i + 1]) ** 2).sum(1)) for each in (normal, new)
            )
            assert found.shape == (3, 8, 8)
            expected = expected + (found - calm.mean()) / calm.std() / 2
    x = detector._describe(as_batch(good[:3]))
    assert_allclose(network.map(x), expected, rtol=1e-4, atol=1e-4)
    calm = network.calibration(network.raw_maps(detector._describe(as_batch(held))))
    assert calm.shape == (4, 5, 8, 8)
    assert_allclose(calm.mean((1, 2, 3)), 0, atol=1e-5)
    assert_allclose(calm.std((1, 2, 3), correction=0), 1, atol=1e-5)


@pytest.mark.parametrize("share_done", [0.05, 0.5])
def test_the_loss_is_the_papers(share_done, good):
    network = clone(SMALL).set_params(max_epochs=1).fit(good).net_.double()
    network.share_done = share_done
    expected = 0
    for taught, said, few, again, wide in said_of(network, good[:3]):
        expected += ((taught - said) ** 2).mean() + ((taught - wide) ** 2).mean()
        expected += ((few - again) ** 2).mean() * (share_done > 0.1)
    x = torch.tensor(good[:3]).flatten(1)
    assert_allclose(network.loss(x, None).item(), expected, rtol=1e-9)


def test_both_ends_of_the_second_pair_learn(good):
    network = clone(SMALL).set_params(max_epochs=1).fit(good).net_.double()
    network.requires_grad_(True)
    x = torch.tensor(good[:2]).flatten(1)
    for share, learns in ((0.05, False), (0.5, True)):
        network.share_done = share
        network.zero_grad(set_to_none=True)
        network.loss(x, None).backward()
        own = network.students[0]
        assert all(one.grad is None for one in network.teachers.parameters())
        given = [one.grad is not None for one in own.context_student.parameters()]
        assert all(given) if learns else not any(given)
        if not learns:
            before = own.context.encode.weight.grad.clone()
    assert not torch.equal(own.context.encode.weight.grad, before)


def test_the_share_of_epochs_is_told(good, monkeypatch):
    seen, loss = [], GCADNetwork.loss

    def noting(network, x, y):
        if network.training:
            seen.append(network.share_done)
        return loss(network, x, y)

    monkeypatch.setattr(GCADNetwork, "loss", noting)
    clone(SMALL).set_params(batch_size=20).fit(good)
    assert_allclose(seen, np.arange(10) / 10)


# ------------------------------------------------------------------------- the networks


@pytest.mark.parametrize("grid", [(32, 24), (16, 12), (8, 6), (7, 9)])
def test_all_goes_through_the_code(grid):
    network = ContextNetwork((2, 32, 24), (3, *grid), code_size=4, width=4).eval()
    x = torch.randn(2, 2, 32, 24)
    code, seen = network.code(x)
    assert code.shape == (2, 4, 1, 1)
    assert [each.shape[2:] for each in seen[:3]] == [(16, 12), (8, 6), (4, 3)]
    found = network(x)
    assert found.shape == (2, 3, *grid)
    assert not torch.allclose(found[0], found[1])
    with torch.no_grad():
        network.encode.weight.zero_()
    found = network(x)
    assert torch.equal(found[0], found[1])  # whatever else was seen
    assert torch.equal(network(x, faded=0.0), found)
    found = network.train()(x, faded=0.0)
    assert not torch.allclose(found[0], found[1])
    found = network(x, faded=1.0)
    assert torch.equal(found[0], found[1])


def test_what_bypasses_the_code_fades_from_the_largest_size_on():
    network = ContextNetwork((1, 64, 64), (3, 64, 64), code_size=4, width=4)
    assert len(network.across) == 5
    for faded, expected in (
        (0, [1, 1, 1, 1, 1]),
        (0.1, [1, 1, 1, 1, 0.5]),
        (0.2, [1, 1, 1, 1, 0]),
        (0.5, [1, 1, 0.5, 0, 0]),
        (1, [0, 0, 0, 0, 0]),
    ):
        assert_allclose(network.shares(faded), expected, atol=1e-12)


def naive_unet(network, x):
    """Return what a U-Net of three sizes says, written out."""
    down, up, join = network.down, network.up, network.join

    def twice(part, x):
        return functional.relu(part[2](functional.relu(part[0](x))))

    one = twice(down[0], x)
    two = twice(down[1], functional.max_pool2d(one, 2))
    three = twice(down[2], functional.max_pool2d(two, 2))
    two = twice(join[0], torch.cat([two, up[0](three)], 1))
    one = twice(join[1], torch.cat([one, up[1](two)], 1))
    return network.last(one)


def test_the_unet_is_the_papers():
    network = PooledUNet(2, (3, 16, 12), (16, 12), width=4, n_sizes=3).double()
    x = torch.randn(2, 2, 16, 12).double()
    assert_allclose(network(x).detach(), naive_unet(network, x).detach(), atol=1e-12)
    whole = PooledUNet(3, (128, 256, 256), (256, 256))
    assert whole.steps[-1] == ((2, 2), (16, 16))
    assert [part[2].out_channels for part in whole.down] == [64, 128, 256, 512, 1024]
    assert [part[2].out_channels for part in whole.join] == [512, 256, 128, 64]
    n = 0
    for into, out in ((3, 64), (64, 128), (128, 256), (256, 512), (512, 1024)):
        n += 9 * out * (into + out) + 2 * out
        if into > 3:
            n += 4 * out * into + into + 9 * into * (out + into) + 2 * into
    n += 64 * 128 + 128
    assert sum(each.numel() for each in whole.parameters()) == n


@pytest.mark.parametrize(
    ("size", "target", "n_up"),
    [
        ((64, 48), (16, 12), 2),
        ((30, 21), (30, 21), 4),
        ((30, 21), (10, 7), 3),
        ((1, 9), (1, 9), 4),
        ((1, 1), (1, 1), 0),
        ((64, 64), (2, 2), 0),
    ],
)
def test_the_way_up_ends_at_the_grid(size, target, n_up):
    network = PooledUNet(1, (3, *target), size, width=2)
    assert len(network.up) == n_up
    assert network(torch.randn(2, 1, *size)).shape == (2, 3, *target)
    context = ContextNetwork((1, *size), (3, *target), 2, 2)
    assert context(torch.randn(2, 1, *size)).shape == (2, 3, *target)


def test_students_see_farther_than_the_teacher():
    network = GCADNetwork((1, 48, 48), (None, 4), (17,), 3, 4, 4, 2, 2, 4, 4, 5)
    x = torch.rand(1, 48 * 48, requires_grad=True)
    pictures = network._pictures(x)
    own = network.students[0]
    for part, far in (
        (network.teachers[0], False),
        (own.local_student, True),
        (own.context.eval(), True),
    ):
        (slope,) = torch.autograd.grad(part(pictures)[0, :, 1, 1].sum(), x)
        pictures = network._pictures(x)
        assert bool(slope.view(48, 48)[30:, 30:].any()) == far


# ------------------------------------------------------------------- a part too many


def discs(n, seed, k=1, shade=0.0):
    """Return pictures (n, 48, 48) of k dark discs anywhere, far from each other."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:48, :48]
    found = rng.uniform(247 / 255, 1, size=(n, 48, 48))
    for picture in found:
        places = np.zeros((k, 2))
        while not places.any() or (k > 1 and np.hypot(*(places[0] - places[1])) < 26):
            places = rng.uniform(5, 42, size=(k, 2))
        for row, column in places:
            picture[(rows - row) ** 2 + (columns - column) ** 2 <= 16] = shade
        picture[:] = gaussian_filter(picture, 0.7)
    return found.astype(np.float32)


@pytest.mark.full
def test_two_discs_are_told_by_the_code_alone():
    """The toy of the paper's appendix: one disc is normal, wherever it is.

    Of two discs every patch is normal. The larger of two errors beats one in two of
    three cases, which is what a network of patches may reach.
    """
    detector = GCAD(
        patch_sizes=(17,),
        channels=8,
        width=4,
        code_size=8,
        global_channels=4,
        global_width=16,
        student_width=4,
        teacher_epochs=5,
        max_epochs=60,
        batch_size=8,
        lr=0.004,
        random_state=0,
    ).fit(discs(200, 0))
    good, two, pale = discs(60, 1), discs(60, 2, k=2), discs(60, 3, shade=0.4)
    y = np.repeat([0, 1], 60)

    def areas(bad):
        x = torch.tensor(np.concatenate([good, bad])).flatten(1)
        with torch.no_grad():
            maps = detector.net_.calibration(detector.net_.raw_maps(x))
        parts = [*maps, maps.sum(0)]
        return [roc_auc_score(y, each.flatten(1).amax(1)) for each in parts]

    local, context, both = areas(two)
    assert local < 0.8
    assert context > 0.95
    assert both > 0.95
    assert areas(pale)[2] > 0.95
    assert np.mean(detector.predict(good) == -1) < 0.2
    assert np.mean(detector.predict(two) == -1) > 0.9
