"""Students that imitate a frozen network, and networks that imitate each other."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from sklearn.base import clone

from skad.embedding._gabor import GaborBank
from skad.image import IKD, MKD, UninformedStudents
from skad.image.student._uninformed import UninformedStudentsNetwork
from skad.nn.description import DensePatches
from tests.test_image_networks import GRID, as_batch, pictures

SMALL = {"max_epochs": 2, "batch_size": 4, "random_state": 0, "smoothing": 0}


pytestmark = pytest.mark.usefixtures("own_generator")


@pytest.fixture(scope="module")
def good():
    return pictures(20)


def cosine(a, b):
    return (a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum())


# ---------------------------------------------------------------------------------- MKD


KNOWN = MKD(**SMALL)


def whole_maps(theirs, made, weight):
    """Return the distance (n,) of whole maps, picture by picture."""
    return np.array(
        [
            1 - cosine(a, b) + weight * ((a - b) ** 2).mean()
            for a, b in zip(theirs, made, strict=True)
        ]
    )


@pytest.mark.parametrize("layers", [("scale2",), None])
def test_mkd_is_the_papers_formula(layers, good):
    detector = clone(KNOWN).set_params(value_weight=0.3, layers=layers).fit(good)
    network = detector.net_.double()
    teacher = detector.embedding_.feature_maps(as_batch(good[:3]))
    student = network.student(torch.tensor(good[:3, None]))
    found = [
        whole_maps(theirs.numpy(), made.numpy(), 0.3)
        for theirs, made in zip(teacher, student, strict=True)
    ]
    x = detector._describe(as_batch(good[:3]))
    assert_allclose(network.loss(x, None).item(), np.sum(found, axis=0).mean())
    # of four layers the last three are scored
    assert len(found) == (4 if layers is None else 1)
    assert_allclose(-detector.score_samples(good[:3]), np.sum(found[-3:], axis=0))


def test_mkd_map_is_what_a_pixel_changes(good):
    bad = good[:2].copy()
    bad[:, 8:16, 16:24] = 0.9
    detector = clone(KNOWN).fit(good)
    network, maps = detector.net_.double(), detector.transform(bad)

    def anomaly(picture):
        pairs = zip(network.teacher(picture), network.student(picture), strict=True)
        numbers = [[each.numpy() for each in pair] for pair in pairs]
        return sum(whole_maps(*pair, 0.5) for pair in numbers[-3:])

    picture, step = torch.tensor(bad[:, None]), 1e-5
    for row, column in [(0, 0), (9, 17), (20, 3), (31, 31)]:
        moved = torch.zeros_like(picture)
        moved[:, 0, row, column] = step
        slope = (anomaly(picture + moved) - anomaly(picture - moved)) / (2 * step)
        assert_allclose(maps[:, row, column], np.abs(slope), rtol=1e-4, atol=1e-7)
    assert maps.max() > 1e-3


def test_a_student_that_knows_its_teacher_finds_nothing(good):
    detector = clone(KNOWN).fit(good)
    network = detector.net_.double()
    network.student = network.teacher.module
    for X in (good[:3], np.zeros((1, 32, 32))):
        assert_allclose(detector.score_samples(X), 0, atol=1e-9)
        assert_allclose(detector.transform(X), 0, atol=1e-9)

    class Louder(torch.nn.Module):
        def forward(self, x):
            return [1.5 * each for each in network.teacher.module(x)]

    network.student = Louder()
    maps = detector.embedding_.feature_maps(as_batch(good[:3]))
    expected = sum(0.5 * 0.25 * each.square().mean((1, 2, 3)) for each in maps[-3:])
    assert_allclose(-detector.score_samples(good[:3]), expected, rtol=1e-4)


def test_the_bank_of_filters_has_gradients_everywhere():
    """Also where the picture is flat, and the root of an energy is steep."""
    bank = GaborBank()
    for x in (torch.zeros(1, 3, 32, 32), torch.rand(1, 3, 32, 32)):
        maps = bank(x.double())
        x = x.double().requires_grad_(True)
        again = bank(x)
        for one, other in zip(maps, again, strict=True):
            assert torch.equal(one, other)
        (gradient,) = torch.autograd.grad(sum(each.sum() for each in again), x)
        assert gradient.isfinite().all()
        assert gradient.abs().sum() > 0
    torch.autograd.gradcheck(
        lambda x: bank(x)[1], torch.rand(1, 1, 8, 8).double().requires_grad_(True)
    )


# ------------------------------------------------------------------- UninformedStudents


UNINFORMED = UninformedStudents(
    **{**SMALL, "max_epochs": 3},
    patch_sizes=(17, 33),
    channels=5,
    width=4,
    teacher_epochs=3,
    lr=0.01,
)


def of_one_patch(network):
    """Return the network of plain convolutions and pools for a single patch."""
    parts, convolutions = [], iter(network.convolutions)
    for layer in network.layers:
        if layer is None:
            parts.append(torch.nn.MaxPool2d(2))
        else:
            parts += [next(convolutions), torch.nn.LeakyReLU(5e-3)]
    return torch.nn.Sequential(*parts[:-1])


@pytest.mark.parametrize("stride", [1, 2, 4, 6])
@pytest.mark.parametrize("size", [17, 33, 65])
def test_all_patches_at_once_are_one_after_the_other(size, stride):
    network = DensePatches(2, 3, size, width=4, stride=stride)
    network.requires_grad_(False).double()
    plain, x = of_one_patch(network), torch.randn(2, 2, 30, 21).double()
    found, seen = network(x), {17: 17, 33: 32, 65: 60}[size]
    assert found.shape == (2, 3, -(-30 // stride), -(-21 // stride))
    wide = torch.nn.functional.pad(x, (70,) * 4)
    for row, column in [(0, 0), (1, 2), (found.shape[2] - 1, found.shape[3] - 1)]:
        # the middle of the patch is that of the square of pixels it stands for
        top, left = (
            70 + i * stride + (stride - 1) // 2 - (seen - 1) // 2 for i in (row, column)
        )
        patch = wide[..., top : top + size, left : left + size]
        assert_allclose(found[..., row, column], plain(patch)[..., 0, 0], atol=1e-12)


def test_uninformed_map_is_the_papers_formula(good, monkeypatch):
    seen, finish = [], UninformedStudentsNetwork.finish

    def noting(network, batches, held):
        seen.extend(x for x, _ in held())
        finish(network, batches, held)

    monkeypatch.setattr(UninformedStudentsNetwork, "finish", noting)
    detector = clone(UNINFORMED).fit(good)
    network = detector.net_.double()
    held = torch.cat(seen).double().reshape(-1, 32, 32).numpy()
    assert len(held) == detector.n_held_out_ == 5

    def parts(X):
        """Return errors and variances (2, n, gh, gw) of each size."""
        x = torch.tensor(2 * X[:, None] - 1)
        for i, (teacher, students) in enumerate(
            zip(network.teachers, network.students, strict=True)
        ):
            mean, std = (getattr(network.scales[i], name) for name in ("mean", "std"))
            taught = ((teacher(x).movedim(1, 3) - mean) / std).numpy()
            said = np.array([one(x).movedim(1, 3).numpy() for one in students])
            error = ((said.mean(0) - taught) ** 2).sum(-1)
            spread = (said**2).sum(-1).mean(0) - (said.mean(0) ** 2).sum(-1)
            yield np.array([error, spread])

    expected = 0
    for normal, new in zip(parts(held), parts(good[:3]), strict=True):
        mean, std = (normal.reshape(2, -1).mean(1), normal.reshape(2, -1).std(1))
        assert (std > 0).all()
        for i in range(2):
            expected = expected + (new[i] - mean[i]) / std[i] / 2
    x = detector._describe(as_batch(good[:3]))
    assert_allclose(network.map(x), expected, rtol=1e-4, atol=1e-4)
    assert_allclose(
        network.map(detector._describe(as_batch(held))).mean(), 0, atol=1e-5
    )


def test_one_student_has_no_variance(good):
    detector = clone(UNINFORMED).set_params(n_students=1, patch_sizes=(17,)).fit(good)
    network = detector.net_.double()
    error, variance = network.raw_maps(detector._describe(as_batch(good[:3])))
    assert not variance.any()
    low, high = network.calibration.low[0], network.calibration.high[0]
    found = network.map(detector._describe(as_batch(good[:3])))
    assert_allclose(found, (error - low) / (high - low))


def test_uninformed_losses_are_the_papers(good):
    network = clone(UNINFORMED).fit(good).net_.double()
    detector = clone(UNINFORMED).fit(good)
    x = detector._describe(as_batch(good[:2]))
    total = 0
    for taught, said in network.pairs(x):
        for one in said:
            total += ((one - taught) ** 2).sum(1).mean().item()
    assert_allclose(network.loss(x, None).item(), total)
    network.describe = detector.embedding_.embed
    features = detector.embedding_.transform(good[:2])[:, ::2, ::2]  # of 16 x 16 places
    assert features.shape[1:3] == (8, 8)
    wide = network._described(x).movedim(1, 3)
    assert wide.shape == features.shape
    scale, total = network.target_scale, 0
    target = (wide - scale.mean) / scale.std
    for teacher, decoder in zip(network.teachers, network.decoders, strict=True):
        said = teacher(2 * x.view(2, 1, 32, 32) - 1)
        total += ((decoder(said).movedim(1, 3) - target) ** 2).sum(-1).mean().item()
        between = np.corrcoef(said.movedim(1, 3).reshape(-1, 5).numpy().T)
        total += (between**2).sum() - 5
    assert_allclose(network.teaching(x).item(), total, rtol=1e-9)


def test_teachers_are_taught_once_and_then_stay(good):
    taught = clone(UNINFORMED).fit(good)
    again = clone(taught).set_params(max_epochs=1).fit(good)
    random = clone(taught).set_params(teacher_epochs=0).fit(good)
    assert [h["phase"] for h in taught.history_] == ["teachers"] * 3 + ["students"] * 3
    weights = [
        one.net_.teachers[0].convolutions[0].weight for one in (taught, again, random)
    ]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert taught.net_.describe is None
    with pytest.raises(ValueError, match="patch_sizes"):
        UninformedStudents(patch_sizes=(17, 18)).fit(good)


# ---------------------------------------------------------------------------------- IKD


HARD = IKD(**SMALL, **GRID, student_channels=(8, 16))


def units(detector, X):
    """Return unit vectors (n, 8, 8, c) of teacher and student in each layer."""
    maps = detector.embedding_.feature_maps(as_batch(X))
    student = detector.net_.student(torch.tensor(X[:, None]))
    for pair in zip(maps, student, strict=True):
        wide = [
            torch.nn.functional.interpolate(each, (8, 8), mode="bilinear").numpy()
            for each in pair
        ]
        yield [np.moveaxis(e / np.linalg.norm(e, axis=1)[:, None], 1, 3) for e in wide]


@pytest.mark.parametrize(("margin", "weight"), [(0.5, 1.0), (-9.0, 0.7), (99.0, 0.0)])
def test_ikd_loss_is_the_papers(margin, weight, good):
    detector = clone(HARD).set_params(margin=margin, affinity_weight=weight).fit(good)
    network = detector.net_.double()
    x = detector._describe(as_batch(good[:3]))
    margins, expected = [float(hard.margin) for hard in network.hard], 0
    for i, (theirs, own) in enumerate(units(detector, good[:3])):
        d = ((theirs - own) ** 2).sum(-1)
        margins[i] = 0.01 * margins[i] + 0.99 * (d.mean() + margin * d.std())
        chosen = d >= min(margins[i], d.max())
        assert chosen.sum() == {-9: 192, 99: 1}.get(margin, chosen.sum())
        assert chosen.sum() < 192 or margin < 0
        tables = [each[chosen] @ each[chosen].T for each in (theirs, own)]
        expected += d[chosen].mean() + weight * ((tables[0] - tables[1]) ** 2).mean()
    network.hard.train()
    assert_allclose(network.loss(x, None).item(), expected, rtol=1e-5)
    assert_allclose([float(hard.margin) for hard in network.hard], margins, rtol=1e-5)


def test_ikd_map_is_the_sum_of_distances(good):
    detector, wide = clone(HARD).fit(good), 0
    detector.net_.double()
    for theirs, own in units(detector, good[:3]):
        places = torch.tensor(1 - (theirs * own).sum(-1))[:, None]
        wide = wide + torch.nn.functional.interpolate(places, (32, 32), mode="bilinear")
    assert_allclose(detector.transform(good[:3]), wide[:, 0], rtol=1e-4, atol=1e-6)


def test_a_margin_stays_while_nothing_is_trained(good):
    detector = clone(HARD).fit(good)
    network = detector.net_
    before = [float(hard.margin) for hard in network.hard]
    assert min(before) > 0
    network.loss(detector._describe(as_batch(good[:5])).float(), None)
    assert [float(hard.margin) for hard in network.hard] == before
