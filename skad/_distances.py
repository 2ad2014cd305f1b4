"""Squared distances through products of rows, and through differences where they fail.

``|x|^2 + |y|^2 - 2 x.y`` is a fast product, but what it rounds off grows with the
norms, not with the distance: far from the centre all digits may go. With the centre
amid the rows only pairs of two far rows are concerned; theirs are formed anew.
"""

from scipy.spatial.distance import cdist

from skad._array import is_torch, like, namespace, to_double

# Rounding of a squared distance that is let be, in the unit that the caller thinks in.
# It is a bound; what happens is about a hundredth.
_ROUNDING = 0.05
# Rows of which `middle` takes the median.
_ROWS = 200


def middle(X):
    """Return a point (d,) amid the rows, in float64: the median of some of them.

    A few stray values move the mean far away from all rows, but not the median.
    """
    few = to_double(X[:: max(1, X.shape[0] // _ROWS)])
    # a copy, or all of the sorted rows would stay in memory with it
    return 1.0 * namespace(X).sort(few, axis=0)[few.shape[0] // 2]


def trusted(X):
    """Return the square of the norm up to which products of rows of `X` are exact.

    In the unit in which distances matter. The rounding of a product of `d` terms is
    bounded as by Higham and Mary (2019, lambda = 4). Where one row is nearer and the
    other farther, the rounding is small beside their distance.
    """
    eps = float(namespace(X).finfo(X.dtype).eps)
    return _ROUNDING / (8 * eps * (X.shape[1] ** 0.5 + 2))


def squared_distances(X, Y, centre, unit=1.0):
    """Return the squared distances (b, m) of rows, exact to a share of `unit`."""
    xp = namespace(X)
    left, right = X - like(centre, X), Y - like(centre, Y)
    norms, others = xp.sum(left * left, axis=1), xp.sum(right * right, axis=1)
    squares = left @ right.T
    squares *= -2
    squares += norms[:, None]
    squares += others
    squares = xp.clip(squares, 0, None, out=squares)
    limit = trusted(X) * unit
    amend(squares, X, Y, norms > limit, others > limit, centre, unit)
    return squares


def amend(squares, X, Y, far, far_others, centre, unit=1.0, factor=1.0):
    """Put `factor` times the distances between far rows into `squares` (b, m)."""
    xp = namespace(X)
    rows, columns = xp.nonzero(far)[0], xp.nonzero(far_others)[0]
    if len(rows) and len(columns):
        found = _between(to_double(X[rows]), to_double(Y[columns]), X, centre, unit)
        squares[rows[:, None], columns] = like(factor * found, squares)


def _between(X, Y, given, centre, unit):
    """Return the squared distances of rows in float64, as exact as the `given` ones."""
    if str(given.dtype) != str(X.dtype):  # products may do in float64
        return squared_distances(X, Y, centre, unit)
    if is_torch(X):
        import torch

        exactly = "donot_use_mm_for_euclid_dist"
        return torch.cdist(X, Y, compute_mode=exactly) ** 2
    return cdist(X, Y, "sqeuclidean")
