"""PFM: mappings between what two networks say, and their errors."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from sklearn.base import clone
from torch import nn
from torch.nn import functional as F  # noqa: N812

from skad.embedding import PatchEmbedding
from skad.image import PFM
from skad.image.student._pfm import Mappings, PFMNetwork

SHORT = {"latent_sizes": (6, 8), "max_epochs": 2, "random_state": 0}


def pictures(n, seed=0):
    rng = np.random.default_rng(seed)
    waves = 0.2 * np.sin(np.arange(32) / 2 + rng.uniform(0, 6, (n, 1, 1)))
    return 0.5 + waves + rng.normal(0, 0.02, (n, 32, 32))


pytestmark = pytest.mark.usefixtures("own_generator")


def made(position=False):
    """Return a network of two layers and samples of pictures (3, m)."""
    shapes = [(4, 6, 6), (8, 3, 3), (5, 6, 6), (3, 3, 3)]
    network = PFMNetwork(shapes, (12, 12), (6,), position).double().eval()
    return network, torch.randn(3, 144 + 72 + 180 + 27).double()


def test_the_middle_is_shared_and_widths_are_those_of_the_paper():
    mappings = Mappings((64, 8, 8), (256, 8, 8), 200, False)
    convolutions = [one for one in mappings.modules() if isinstance(one, nn.Conv2d)]
    assert all(one.kernel_size == (1, 1) for one in convolutions)
    widths = {tuple(one.weight.shape[:2]) for one in convolutions}
    there = {(232, 64), (400, 232), (400, 200), (328, 400), (256, 328)}
    back = {(328, 256), (400, 328), (232, 400), (64, 232)}
    assert widths == {*there, *back, (200, 400)}
    assert len(convolutions) == 11  # one of them in both ways
    first = torch.randn(2, 64, 8, 8)
    said = mappings.eval()(first, torch.randn(2, 256, 8, 8))
    assert [each.shape[1] for each in said] == [64, 256]
    # each is said of the other's alone
    again = mappings(first, torch.randn(2, 256, 8, 8))
    assert torch.equal(said[1], again[1])
    assert not torch.allclose(said[0], again[0])


def test_its_map_is_the_mean_of_both_ways_and_of_layers():
    network, x = made()
    maps = [
        part.view(3, *shape)
        for part, shape in zip(
            x.split([144, 72, 180, 27], 1), network.shapes, strict=True
        )
    ]
    total, losses = 0.0, []
    for i in (0, 1):
        a, b = maps[i], maps[i + 2]
        part = network.layers[i]
        b_said = part.out[1](part.shared(part.into[0](a)))
        a_said = part.out[0](part.shared(part.into[1](b)))
        losses.append(((a - a_said) ** 2).mean() + ((b - b_said) ** 2).mean())
        error = ((a - a_said) ** 2).sum(1) + ((b - b_said) ** 2).sum(1)
        total = total + F.interpolate(error[:, None] / 2, (12, 12), mode="bilinear")
    assert_allclose(network.map(x).detach(), total[:, 0].detach() / 2)
    assert_allclose(network.loss(x, None).detach(), sum(losses).detach())
    found = dict(network.updates("fit", x, None))
    assert_allclose(found["first"].detach(), losses[0].detach())
    assert_allclose(found["others"].detach(), losses[1].detach())


def test_what_is_said_right_is_no_anomaly():
    network, x = made()

    class Knows(nn.Module):
        def forward(self, a, b):
            return a, b

    network.layers = nn.ModuleList([Knows(), Knows()])
    assert_allclose(network.map(x), 0)


@pytest.mark.parametrize("position", [False, True])
def test_places_count_where_they_are_told(position):
    network, _ = made(position)
    maps = [torch.randn(2, *shape).double() for shape in network.shapes]

    def errors(maps):
        x = torch.cat([each.flatten(1) for each in maps], 1)
        return network.errors(x)[0][0].sum(1).detach()

    turned = errors([each.rot90(1, (2, 3)) for each in maps])
    same = torch.allclose(turned, errors(maps).rot90(1, (1, 2)))
    assert same == (not position)


def test_samples_are_both_networks_features_at_length_one():
    X = pictures(8)
    other = PatchEmbedding("gabor", ("scale2",), image_size=64)
    detector = PFM(layers=("scale3",), other=other, **SHORT).fit(X)
    x = torch.tensor(X)[..., None]
    a, b = (
        embedding.feature_maps(x)[0]
        for embedding in (detector.embedding_, detector.other_)
    )
    assert b.shape[2:] != a.shape[2:]
    b = F.interpolate(b, a.shape[2:], mode="bilinear")
    a, b = (each / (each**2).sum(1, keepdim=True).sqrt() for each in (a, b))
    expected = torch.cat([a.flatten(1), b.flatten(1)], 1)
    assert_allclose(detector._describe(x), expected, atol=1e-6)


def test_the_first_layer_learns_ten_times_as_fast():
    detector = PFM(**SHORT).fit(pictures(8))
    assert_allclose(detector._optimizer_of("fit", "first")["lr"], 3e-3)
    assert detector._optimizer_of("fit", "others") == {}
    groups = detector.net_.groups("fit")
    first = {id(weight) for weight in groups["first"]}
    own = {id(weight) for weight in detector.net_.layers[0].parameters()}
    assert first == own
    every = {id(weight) for weight in detector.net_.parameters()}
    assert {id(weight) for weight in groups["others"]} == every - own
    slow = clone(detector).set_params(lr=1e-12).fit(pictures(8))
    for fast, still in zip(detector.net_.layers, slow.net_.layers, strict=True):
        assert not torch.equal(fast.shared.weight, still.shared.weight)


def test_other_networks_have_as_many_layers():
    X = pictures(8)
    assert PFM(**SHORT).fit(X).other_.backbone == "resnet18"
    beside = PFM(**SHORT, backbone="resnet18", weights="random").fit(X)
    assert beside.other_.layers_ == ("scale1", "scale2", "scale3")
    other = PatchEmbedding("gabor", ("scale1",))
    with pytest.raises(ValueError, match="1 layers and the backbone 4"):
        PFM(**SHORT, other=other).fit(X)


@pytest.mark.parametrize("wrong", [{"latent_sizes": ()}, {"position": 2}])
def test_parameters_are_checked(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        PFM(**wrong).fit(pictures(6))
