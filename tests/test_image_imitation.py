"""Students that imitate a frozen network, and networks that imitate each other."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from sklearn.base import clone

from skad.embedding._gabor import GaborBank
from skad.image import MKD
from tests.test_image_networks import as_batch, pictures

SMALL = {"max_epochs": 2, "batch_size": 4, "random_state": 0, "smoothing": 0}


@pytest.fixture(autouse=True)
def _seed():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


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
