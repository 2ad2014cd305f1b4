"""Curves of mass and volume, which say without a label how well scores fit the data.

A good score gathers much of the data (mass) in sets ``{score >= u}`` of little volume.
Volume is measured as a share of the box that the data span, by points drawn evenly in
it; so the curves have no unit, and features may be scaled at will.
"""

import numpy as np

from skad._array import to_numpy


def level_sets(scores, box_scores):
    """Return the mass (l,) and volume (l,) of the sets above each score, ascending.

    The volume is ``(k + 1) / (m + 1)`` with `k` of the `m` points in the set, so that
    no set is empty because too few points were drawn.
    """
    levels, counts = np.unique(to_numpy(scores), return_counts=True)
    mass = np.cumsum(counts[::-1]) / counts.sum()
    below = np.searchsorted(np.sort(to_numpy(box_scores)), levels[::-1], side="left")
    return mass, (len(box_scores) - below + 1) / (len(box_scores) + 1)


def best_sets(mass, volume):
    """Return the mass and volume of the sets that some price of volume makes best.

    They are the corners of the least concave curve above all sets, the empty one first.
    """
    corners = [(0.0, 0.0)]
    for point in zip(volume.tolist(), mass.tolist(), strict=True):
        while len(corners) > 1 and _turns_up(*corners[-2:], point):
            corners.pop()
        corners.append(point)
    volume, mass = np.array(corners).T
    return mass, volume


def _turns_up(first, second, third):
    (x0, y0), (x1, y1), (x2, y2) = first, second, third
    # a corner that only rounding makes is none
    return (y1 - y0) * (x2 - x0) <= (1 + 1e-12) * (y2 - y0) * (x1 - x0)


def excess_mass_curve(scores, box_scores):
    r"""Return the excess mass curve of scores.

    .. math:: EM(t) = \max_u \; P(s(X) \geq u) - t \, Leb(s \geq u)

    is piecewise linear and convex in the price `t` of volume; the curve is given
    exactly, by its corners.

    Parameters
    ----------
    scores : array-like of shape (n_samples,)
        Scores of the data, higher is more normal.
    box_scores : array-like of shape (n_points,)
        Scores of points drawn evenly in the box that the data span.

    Returns
    -------
    price : ndarray of shape (n_corners,)
        Prices `t` of the whole box, ascending from 0.
    excess : ndarray of shape (n_corners,)
        Excess mass, descending from 1 to 0.

    See Also
    --------
    ExcessMass : The area under this curve, as a scorer.

    References
    ----------
    .. [1] N. Goix, "How to evaluate the quality of unsupervised anomaly detection
       algorithms?", ICML Anomaly Detection Workshop, 2016
       (arXiv:1607.01152).

    Examples
    --------
    >>> from skad.model_selection import excess_mass_curve
    >>> price, excess = excess_mass_curve([2, 2, 2, 1], [2, 1, 1, 0, 0, 0, 0])
    >>> price
    array([0., 1., 3.])
    >>> excess
    array([1. , 0.5, 0. ])
    """
    mass, volume = best_sets(*level_sets(scores, box_scores))
    price = np.diff(mass) / np.diff(volume)  # at which one set gives way to the next
    excess = mass[1:] - price * volume[1:]
    return np.append(0.0, price[::-1]), np.append(1.0, excess[::-1])


def mass_volume_curve(scores, box_scores):
    r"""Return the mass volume curve of scores.

    .. math:: MV(\alpha) = \min_u \; Leb(s \geq u)
        \quad \text{where} \quad P(s(X) \geq u) \geq \alpha

    is a staircase: ``volume[i]`` for ``mass[i - 1] < alpha <= mass[i]``.

    Parameters
    ----------
    scores : array-like of shape (n_samples,)
        Scores of the data, higher is more normal.
    box_scores : array-like of shape (n_points,)
        Scores of points drawn evenly in the box that the data span.

    Returns
    -------
    mass : ndarray of shape (n_levels,)
        Shares of the data, ascending to 1.
    volume : ndarray of shape (n_levels,)
        Volume that each share takes, as a share of the box, ascending.

    See Also
    --------
    MassVolume : The area under this curve, as a scorer.

    References
    ----------
    .. [1] S. Clémençon and A. Thomas, "Mass volume curves and anomaly ranking",
       Electronic Journal of Statistics, 2018.

    Examples
    --------
    >>> from skad.model_selection import mass_volume_curve
    >>> mass, volume = mass_volume_curve([2, 2, 2, 1], [2, 1, 1, 0, 0, 0, 0])
    >>> mass
    array([0.75, 1.  ])
    >>> volume
    array([0.25, 0.5 ])
    """
    return level_sets(scores, box_scores)


def excess_mass_area(scores, box_scores, min_mass):
    """Return the area under the excess mass curve while it is above `min_mass`."""
    price, excess = excess_mass_curve(scores, box_scores)
    last = np.interp(-min_mass, -excess, price)
    inside = excess > min_mass
    return float(
        np.trapezoid(
            np.append(excess[inside], min_mass), np.append(price[inside], last)
        )
    )


def mass_volume_area(scores, box_scores, min_mass):
    """Return the area under the mass volume curve from `min_mass` to 1."""
    mass, volume = mass_volume_curve(scores, box_scores)
    stairs = np.diff(np.maximum(mass, min_mass), prepend=min_mass)
    return float(stairs @ volume)
