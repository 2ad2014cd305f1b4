"""CSFlow and AST: flows of several maps at once, and a student that follows one."""

from functools import partial

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from torch import nn
from torch.nn import functional as F  # noqa: N812

from skad.image import AST, CSFlow
from skad.image._trained import split_maps
from skad.image.density._csflow import CSFlowNetwork
from skad.image.student._ast import ASTNetwork
from skad.nn.flow import Flow
from skad.nn.joint_flow import CrossConvolutions, JointCoupling

SMALL = {"n_steps": 2, "hidden_size": 4, "random_state": 0}
STUDENT = {**SMALL, "condition_size": 4, "student_channels": 8, "n_blocks": 1}


def pictures(n):
    rng = np.random.default_rng(0)
    return 0.5 + 0.1 * (rng.normal(size=(24, 32)) + 0.3 * rng.normal(size=(n, 24, 32)))


pytestmark = pytest.mark.usefixtures("own_generator")


def loosened(flow):
    """Return a flow with gains of its own, which is no permutation any more."""
    with torch.no_grad():
        for name, weight in flow.named_parameters():
            if name.endswith("gain"):
                weight.copy_(2 * torch.randn_like(weight))
    return flow.double()


def made(n_channels, n_maps, n_conditions=0):
    subnetwork = partial(CrossConvolutions, hidden_size=5, n_maps=n_maps)
    blocks = [
        JointCoupling(n_channels, subnetwork, n_maps, n_conditions) for _ in range(3)
    ]
    return Flow(blocks)


def maps(n, channels, *sizes):
    return [torch.randn(n, channels, *size).double() for size in sizes]


@pytest.mark.parametrize("channels", [2, 3])
@pytest.mark.parametrize("sizes", [[(2, 2)], [(2, 2), (1, 1)], [(3, 2), (2, 1)]])
def test_the_log_determinant_is_that_of_the_jacobian(channels, sizes):
    flow = loosened(made(channels, len(sizes), 4))
    x, condition = maps(1, channels, *sizes), maps(1, 4, *sizes)
    lengths = [each.numel() for each in x]

    def whole(flat):
        parts = flat.split(lengths)
        parts = [a.reshape(b.shape) for a, b in zip(parts, x, strict=True)]
        return torch.cat([each.flatten() for each in flow(parts, condition)[0]])

    flat = torch.cat([each.flatten() for each in x])
    jacobian = torch.autograd.functional.jacobian(whole, flat)
    _, logdet = flow(x, condition)
    expected = torch.linalg.slogdet(jacobian).logabsdet
    assert abs(expected) > 0.1
    assert_allclose(logdet.detach(), [expected], rtol=1e-9)


def test_a_joint_flow_is_invertible():
    flow = loosened(made(3, 3))
    x = maps(2, 3, (8, 6), (4, 3), (2, 2))
    z, _ = flow(x)
    for before, after, back in zip(x, z, flow.inverse(z), strict=True):
        assert (before - after).abs().max() > 0.1
        assert_allclose(back.detach(), before, atol=1e-9)


def test_scales_tell_those_beside_them():
    flow = loosened(Flow(made(2, 3).blocks[:1]))
    x = maps(1, 2, (4, 4), (2, 2), (1, 1))
    z, _ = flow(x)
    for i in range(3):
        moved = [each + (i == j) for j, each in enumerate(x)]
        far = [
            float((a - b).detach().abs().max())
            for a, b in zip(z, flow(moved)[0], strict=True)
        ]
        # two subnetworks one behind the other reach two scales
        assert all(change > 1e-6 for change in far)


def test_a_flow_begins_as_a_permutation():
    flow = made(4, 2).double()
    x = maps(3, 4, (4, 4), (2, 2))
    z, logdet = flow(x)
    assert_allclose(logdet.detach(), 0)
    for before, after in zip(x, z, strict=True):
        assert not torch.equal(before, after)
        assert_allclose(before.sort(1).values, after.detach().sort(1).values)


# ----------------------------------------------------------------------------- CS-Flow


def network_of(kind, shapes, **others):
    """Return a network and samples (5, m) for it."""
    network = loosened(kind(shapes, **others))
    return network, torch.randn(5, sum(int(np.prod(s)) for s in shapes)).double()


SHAPES = [(3, 4, 4), (3, 2, 2)]
CS = {"n_steps": 2, "hidden_size": 4, "clamp": 3.0}


def test_csflow_loses_its_likelihood_by_element():
    network, x = network_of(CSFlowNetwork, SHAPES, **CS)
    z, logdet = network.transformed(x)
    flat = torch.cat([each.flatten(1) for each in z], 1)
    normal = torch.distributions.Normal(0, 1)
    likelihood = normal.log_prob(flat).sum(1) + logdet
    constant = np.log(2 * np.pi) / 2
    loss = network.loss(x, None).detach()
    assert_allclose(loss, -likelihood.mean().detach() / 60 - constant)


def test_csflow_scores_by_all_scales_and_maps_the_finest():
    network, x = network_of(CSFlowNetwork, SHAPES, **CS)
    (fine, coarse), _ = network.transformed(x)
    found, anomaly = network.both(x)
    assert_allclose(found.detach(), fine.square().mean(1).detach())
    whole = (fine.square().sum((1, 2, 3)) + coarse.square().sum((1, 2, 3))) / 120
    assert_allclose(anomaly.detach(), whole.detach())


def test_csflow_starts_with_the_length_of_the_features():
    network = CSFlowNetwork(SHAPES, **CS).double()
    x = torch.randn(5, 60).double()
    assert_allclose(network.anomaly(x).detach(), x.square().mean(1) / 2)


def test_csflow_looks_at_halved_pictures():
    X = np.repeat(pictures(6)[..., None], 3, axis=3)  # a flow wants channels
    settings = {**SMALL, "backbone": nn.Sequential(nn.AvgPool2d(2)), "layers": ["0"]}
    detector = CSFlow(**settings, normalization=None, max_epochs=1).fit(X)
    shapes = [(3, 12, 16), (3, 6, 8), (3, 3, 4)]
    assert detector.net_.shapes == shapes
    samples = split_maps(detector._describe(torch.as_tensor(X)), shapes)
    for maps in samples:
        n = 24 // maps.shape[2]
        means = X.reshape(6, 24 // n, n, 32 // n, n, 3).mean((2, 4))
        known = np.moveaxis(means, 3, 1).ravel()
        assert np.corrcoef(maps.flatten(), known)[0, 1] > 0.9


# --------------------------------------------------------------------------------- AST

ASYMMETRIC = {
    **CS,
    "clamp": 1.9,
    "condition_size": 4,
    "student_channels": 6,
    "n_blocks": 1,
}


def test_the_teacher_loses_its_likelihood_by_place():
    network, x = network_of(ASTNetwork, SHAPES[:1], **ASYMMETRIC)
    maps, codes = network.told(x)
    (z,), logdet = network.teacher([maps], [codes])
    by_place = 0.5 * z.square().sum(1)  # (b, h, w)
    expected = by_place.mean() - logdet.mean() / 16
    assert_allclose(network.teacher_loss(x).detach(), expected.detach())


def test_ast_maps_the_mean_difference_and_is_told_the_place():
    network, x = network_of(ASTNetwork, SHAPES[:1], **ASYMMETRIC)
    maps, codes = network.told(x)
    (z,), _ = network.teacher([maps], [codes])
    said = network.student(torch.cat([maps, codes], 1))
    expected = ((z - said) ** 2).mean(1)
    assert_allclose(network.map(x).detach(), expected.detach())
    assert_allclose(network.loss(x, None).detach(), F.mse_loss(z, said).detach())
    before = network.map(x)
    network.codes.copy_(network.codes.flip(-1))
    assert (network.map(x) - before).abs().max() > 1e-6


def test_each_phase_trains_its_own_part():
    X = pictures(8)
    settings = {**STUDENT, "layers": ["scale2"], "lr": 0.01}
    short = AST(**settings, teacher_epochs=1, max_epochs=1).fit(X)
    long = AST(**settings, teacher_epochs=1, max_epochs=3).fit(X)

    def states(part):
        return [
            torch.nn.utils.parameters_to_vector(
                detector.net_.get_submodule(part).parameters()
            ).detach()
            for detector in (short, long)
        ]

    assert torch.equal(*states("teacher"))
    assert not torch.equal(*states("student"))


@pytest.mark.parametrize(
    ("detector", "match"),
    [
        (CSFlow(n_scales=0), "n_scales"),
        (CSFlow(clamp=0.0), "clamp"),
        (AST(condition_size=6), "condition_size=6 must be a multiple of four"),
        (AST(teacher_epochs=0), "teacher_epochs"),
    ],
)
def test_parameters_are_checked(detector, match):
    with pytest.raises(ValueError, match=match):
        detector.fit(pictures(6))
