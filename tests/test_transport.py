"""Transport between clouds of points, against solvers of the exact problem."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from scipy.optimize import linear_sum_assignment, linprog
from scipy.spatial.distance import cdist

from skad.nn.transport import sinkhorn_divergence


def clouds(n, m, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(3, n, 4)), rng.normal(0.5, 1, size=(3, m, 4))


def divergence(x, y, **settings):
    return sinkhorn_divergence(torch.as_tensor(x), torch.as_tensor(y), **settings)


def exact(x, y):
    """Return the least cost of moving equal weights, and who goes to whom."""
    costs = cdist(x, y, "sqeuclidean") / 2
    _, target = linear_sum_assignment(costs)
    return costs[np.arange(len(x)), target].mean(), target


def test_without_blur_it_is_the_cost_of_the_best_assignment():
    x, y = clouds(12, 12)
    found = divergence(x, y, blur=0.02, scaling=0.97)
    expected = [exact(*pair)[0] for pair in zip(x, y, strict=True)]
    assert_allclose(found, expected, rtol=5e-3)
    nearest = (cdist(x[0], y[0], "sqeuclidean") / 2).min(1).mean()
    assert nearest < 0.9 * expected[0]  # a nearest neighbour would not do


def test_clouds_may_have_different_numbers_of_points():
    x, y = clouds(5, 8)
    found = divergence(x, y, blur=0.02, scaling=0.97)
    sums = np.concatenate([np.kron(np.eye(5), np.ones(8)), np.tile(np.eye(8), 5)])
    weights = np.repeat([1 / 5, 1 / 8], [5, 8])
    for one, other, value in zip(x, y, found, strict=True):
        costs = cdist(one, other, "sqeuclidean").ravel() / 2
        assert_allclose(value, linprog(costs, A_eq=sums, b_eq=weights).fun, rtol=5e-3)


def test_the_gradient_moves_points_to_where_they_are_carried():
    x, y = clouds(10, 10, seed=1)
    points = torch.tensor(x, requires_grad=True)
    sinkhorn_divergence(
        points, torch.tensor(y), blur=0.02, scaling=0.97
    ).sum().backward()
    for one, other, gradient in zip(x, y, points.grad, strict=True):
        _, target = exact(one, other)
        assert_allclose(gradient, (one - other[target]) / 10, atol=5e-3)


@pytest.mark.parametrize("blur", [0.05, 0.5])
def test_it_is_zero_for_equal_clouds_alone(blur):
    x, y = clouds(9, 9, seed=2)
    assert_allclose(divergence(x, x[:, ::-1].copy(), blur=blur), 0, atol=1e-12)
    assert (divergence(x, y, blur=blur) > 0.1).all()
    # the same move of all points costs half its square
    moved = x + np.array([0.3, 0, -0.4, 0])
    assert_allclose(divergence(x, moved, blur=blur, scaling=0.9), 0.125, rtol=1e-2)


def test_the_gradient_is_that_of_the_value():
    x, y = (torch.tensor(one[:1, :4]) for one in clouds(4, 4, seed=3))
    x.requires_grad_(True)

    def value(points):
        return sinkhorn_divergence(points, y, blur=0.5, scaling=0.95).sum()

    (found,) = torch.autograd.grad(value(x), x)
    assert found.abs().max() > 0.2
    for i, k in ((0, 0), (2, 3)):
        step = torch.zeros_like(x)
        step[0, i, k] = 1e-4
        slope = (value(x + step) - value(x - step)) / 2e-4
        assert_allclose(found[0, i, k], slope.detach(), rtol=0.02, atol=2e-3)
