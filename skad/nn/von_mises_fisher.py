"""The von Mises-Fisher distribution of directions: draws, mean length and caps."""

import numpy as np
import torch
from scipy.special import ive
from torch.nn import functional as F  # noqa: N812

# Points of the numeric integral of `cap_boundary`, and how many widths it goes down.
_POINTS, _WIDTHS = 4001, 80.0


def mean_length(concentration, d):
    """Return the length of the mean of unit vectors of d dimensions, in 0..1."""
    return ive(d / 2, concentration) / ive(d / 2 - 1, concentration)


def concentration_of(length, d):
    """Return the concentration whose mean has about a length, in [0, 1).

    Banerjee, Dhillon, Ghosh and Sra, "Clustering on the unit hypersphere using von
    Mises-Fisher distributions", JMLR, 2005, equation (4.4).
    """
    return length * (d - length**2) / (1 - length**2)


def cap_boundary(concentration, d, outside):
    """Return the cosine with the mean below which a share of all unit vectors is.

    Parameters
    ----------
    concentration : float
        Above 0.
    d : int
        Dimensions, at least 2.
    outside : float
        The share, in (0, 1).
    """
    # the angle has no pole at either end, and hardly any mass where the cosine is low
    least = max(-1.0, 1 - (d + _WIDTHS) / concentration)
    angles = np.linspace(0, np.arccos(least), _POINTS)
    middle = (angles[1:] + angles[:-1]) / 2
    logs = concentration * (np.cos(middle) - 1) + (d - 2) * np.log(np.sin(middle))
    mass = np.exp(logs - logs.max())
    total = np.concatenate([[0], mass.cumsum() / mass.sum()])
    return float(np.cos(np.interp(1 - outside, total, angles)))


def draw(mean, concentration):
    """Return unit vectors (b, d), one of each distribution, differentiable in both.

    Wood, "Simulation of the von Mises Fisher distribution", Communications in
    Statistics, 1994. What is drawn is drawn on the host.

    Parameters
    ----------
    mean : tensor of shape (b, d)
        Of unit length; d is at least 2.
    concentration : tensor of shape (b,)
        Above 0.
    """
    b, d = mean.shape
    lean = torch.as_tensor(d - 1.0).to(mean)
    share = lean / (2 * concentration + torch.hypot(2 * concentration, lean))
    with torch.no_grad():
        # one minus cosines, which are all but one where much is concentrated
        top = 2 * share / (1 + share)
        beta = torch.distributions.Beta(*torch.full((2,), (d - 1) / 2))
        z, left = torch.zeros_like(share), torch.arange(b, device=mean.device)
        while len(left):
            new = beta.sample((len(left),)).to(mean)
            u, v = top[left], _missing(new, share[left])
            height = torch.log((u + v - u * v) / (u * (2 - u)))
            height = concentration[left] * (u - v) + (d - 1) * height
            # what is no number is none whatever is drawn
            kept = ~(height < torch.rand(len(left)).to(mean).log())
            z[left[kept]] = new[kept]
            left = left[~kept]
        noise = torch.randn(b, d).to(mean)
    missing = _missing(z, share)
    aside = noise - (noise * mean).sum(1, keepdim=True) * mean
    side = (missing * (2 - missing)).clamp_min(torch.finfo(mean.dtype).tiny).sqrt()
    return (1 - missing)[:, None] * mean + side[:, None] * F.normalize(aside, dim=1)


def _missing(z, share):
    """Return one minus the cosine (b,) that Wood's method makes of draws (b,)."""
    return 2 * share * z / (1 - (1 - share) * z)


def caps(directions, labels, n_classes):
    """Return the mean directions (c, d) of unit vectors, and concentrations (c,).

    Parameters
    ----------
    directions : tensor of shape (n, d)
        Unit vectors, of each class one at least.
    labels : tensor of int, of shape (n,)
        Their classes.
    n_classes : int
        Number c of classes.
    """
    own = F.one_hot(labels, n_classes).to(directions)  # (n, c)
    means = own.T @ directions / own.sum(0)[:, None]
    length = torch.linalg.vector_norm(means, dim=1)
    most = 1 - torch.finfo(directions.dtype).eps  # one, or all alike
    spread = concentration_of(length.clamp(max=most), directions.shape[1])
    return F.normalize(means, dim=1), spread


def outside_caps(directions, centres, boundaries):
    """Return how far unit vectors (b, d) are out of the nearest cap, (b,).

    It is the cosine that is missing to the boundary (c,) of a cap around one of the
    centres (c, d), below 0 inside.
    """
    return (boundaries - directions @ centres.T).amin(1)
