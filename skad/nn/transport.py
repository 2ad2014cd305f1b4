"""How far two clouds of points are apart: optimal transport with some entropy."""

import math

import torch

# Steps with the least blur, after one with each larger one.
_LAST_STEPS = 5


def _costs(x, y):
    """Return half the squared distances (b, n, m) of points (b, n, d) and (b, m, d)."""
    squares = x.square().sum(2)[:, :, None] + y.square().sum(2)[:, None]
    return (squares / 2 - x @ y.mT).clamp(min=0)


def _softmin(costs, potential, epsilon):
    """Return the soft minimum (b, n) of costs (b, n, m) less a potential (b, m)."""
    weighted = (potential[:, None] - costs) / epsilon - math.log(costs.shape[2])
    return -epsilon * weighted.logsumexp(2)


def sinkhorn_divergence(x, y, blur=0.05, scaling=0.5):
    r"""Return how far clouds of points are apart, (b,), whatever their order.

    With the cost :math:`|x_i - y_j|^2 / 2` and equal weights,

    .. math:: S(x, y) = T(x, y) - \tfrac12 T(x, x) - \tfrac12 T(y, y),

    where T is the cost of optimal transport with entropy of the weight
    :math:`\epsilon`, the square of `blur`: the exact cost as that goes to 0, and S is 0
    for equal clouds whatever it is (Feydy et al., "Interpolating between optimal
    transport and MMD using Sinkhorn divergences", AISTATS, 2019).

    Parameters
    ----------
    x : tensor of shape (b, n, d)
        Clouds.
    y : tensor of shape (b, m, d)
        Others.
    blur : float, default=0.05
        Length below which points count as one.
    scaling : float, default=0.5
        Factor from one step's blur to the next, which begins with the largest distance;
        nearer to 1 is more exact.
    """
    total = 0.0
    for one, two, share in ((x, y, 1.0), (x, x, -0.5), (y, y, -0.5)):
        total = total + share * _transported(one, two, blur, scaling)
    return total


def _transported(x, y, blur, scaling):
    """Return the cost (b,) of transport between clouds, with its gradient to both."""
    costs = _costs(x, y)
    with torch.no_grad():
        known = costs.detach()
        wide = float((2 * known.max()).sqrt().clamp(min=blur))
        f = _softmin(known, known.new_zeros(known.shape[::2]), wide**2)
        g = _softmin(known.mT, known.new_zeros(known.shape[:2]), wide**2)
        lengths = [wide]
        while lengths[-1] > blur:
            lengths.append(max(blur, lengths[-1] * scaling))
        for length in (*lengths, *[blur] * _LAST_STEPS):
            epsilon = length**2
            if x is y:
                f = g = (f + _softmin(known, f, epsilon)) / 2
                continue
            # both move by half, so that neither leads
            f, g = (
                (f + _softmin(known, g, epsilon)) / 2,
                (g + _softmin(known.mT, f, epsilon)) / 2,
            )
        # the rows of the plan have their weights after this
        f = _softmin(known, g, epsilon)
        n, m = known.shape[1:]
        plan = ((f[:, :, None] + g[:, None] - known) / epsilon).exp() / (n * m)
    # the derivative of the optimum is that of the costs under the plan
    linear = (plan * costs).sum((1, 2))
    return f.mean(1) + g.mean(1) + linear - linear.detach()
