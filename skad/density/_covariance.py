"""Estimates of a covariance, and what makes rows white under them."""

import numpy as np
from sklearn.covariance import MinCovDet

from skad._array import like, namespace, to_double
from skad._moments import deviations, times


def whitening_matrix(covariance, scale, tol):
    r"""Return :math:`W = P^{-1/2} V^{-1/2}`, so that :math:`W^T W = \Sigma^{-1}`.

    `V` is the diagonal of the covariance, `scale` its root (zero for constant
    features, which are left out) and `P` the correlation. Eigenvalues of `P`
    below `tol` times the largest count as directions without variance and are left
    out, as in the pseudo-inverse.
    """
    xp = namespace(covariance)
    scale = xp.where(scale > 0, scale, np.inf)
    values, vectors = xp.linalg.eigh(covariance / scale[:, None] / scale[None, :])
    keep = values > tol * xp.max(values)
    root = xp.where(keep, 1 / xp.sqrt(xp.where(keep, values, 1.0)), 0.0)
    return (vectors * root) @ vectors.T / scale[None, :]


def least_scale(scale, mean, tol, silent=None):
    """Return `scale` (d,) with something small in place of the zeros of constants.

    A constant has `tol` ** .5 of its own size; one that is zero beside the other
    features has that much of the smallest deviation among them, or the share `silent`.
    """
    xp = namespace(scale)
    root = max(tol, float(xp.finfo(scale.dtype).eps)) ** 0.5
    moving = scale > 0
    least = float(xp.min(scale[moving])) if xp.any(moving) else 1.0
    size = xp.abs(mean)
    floor = least * (root if silent is None else silent)
    return xp.where(moving, scale, xp.where(size > root * least, root * size, floor))


def rank(covariance, scale, tol):
    """Return the rank of the correlation of what varies, up to `tol`."""
    xp = namespace(covariance)
    scale = xp.where(scale > 0, scale, np.inf)
    values = xp.linalg.eigvalsh(covariance / scale[:, None] / scale[None, :])
    floor = max(tol, float(xp.finfo(values.dtype).eps)) * float(xp.max(values))
    return int(xp.sum(values > floor))


def exact_whitening(covariance, scale, mean, tol, freedom, silent=None):
    r"""Return what `whitening_matrix` does, with a way to leave exact relations.

    A direction in which the rows never varied gets a small variance: eigenvalues of
    the correlation are raised to `tol` times the largest, and constant features get
    `least_scale`, with `silent`. `freedom` is the number of rows less that of their
    means. As many directions or fewer would hold any such rows: then relations between
    features mean nothing and are left out, as in the pseudo-inverse.

    Returns
    -------
    whitening : array of shape (d, d)
    exact : array of shape (d, r)
        Orthonormal axes, in whitened coordinates, of the directions with a variance
        that was given to them.
    floor : float
        The variance of a relation among standardised features; inf where left out.
    """
    xp = namespace(covariance)
    constant = scale <= 0
    scale = least_scale(scale, mean, tol, silent)
    correlation = covariance / scale[:, None] / scale[None, :]
    apart = constant[:, None] | constant[None, :]
    identity = like(np.eye(len(scale)), covariance)
    values, vectors = xp.linalg.eigh(xp.where(apart, identity, correlation))
    floor = max(tol, float(xp.finfo(values.dtype).eps)) * float(xp.max(values))
    low = values <= floor
    rank = len(scale) - int(xp.sum(constant)) - int(xp.sum(low))
    if freedom <= rank:
        floor = np.inf
    root = 1 / xp.sqrt(xp.where(low, floor, values))
    axes = [vectors[:, low]] if floor < np.inf else []
    exact = xp.concat([identity[:, constant], *axes], axis=1)
    return (vectors * root) @ vectors.T / scale[None, :], exact, floor


class TrustingCovariance(MinCovDet):
    """scikit-learn's minimum covariance determinant, in half the time.

    It forms a thousand covariances, and read and checked the rows anew for each.
    """

    @staticmethod
    def _nonrobust_covariance(rows, assume_centered=False):
        centred = rows if assume_centered else rows - rows.mean(axis=0)
        covariance = centred.T @ centred
        covariance *= 1 / len(rows)  # as NumPy's `cov` rounds it
        return covariance


def shrink_oas(covariance, n_samples):
    """Return the oracle approximating shrinkage of `covariance`, and its weight."""
    xp = namespace(covariance)
    d = covariance.shape[0]
    mean_variance = xp.sum(xp.linalg.diagonal(covariance)) / d
    # relative to the mean variance, since squares of variances may overflow
    unit = mean_variance if mean_variance > 0 else 1.0
    mean_square = float(xp.mean((covariance / unit) ** 2))
    above = (n_samples + 1) * (mean_square - 1 / d)
    weight = min((mean_square + 1) / above, 1.0) if above > 0 else 1.0
    identity = like(np.eye(d), covariance)
    return (1 - weight) * covariance + weight * mean_variance * identity, weight


def weighted_ledoit_wolf(rows, weights):
    """Return Ledoit and Wolf's covariance of centred rows (n, d), and its shrinkage.

    Rows count by weights (n,); with whole ones this is scikit-learn's `ledoit_wolf` of
    the repeated rows.
    """
    n, d = weights.sum(), rows.shape[1]
    covariance = (rows * weights[:, None]).T @ rows / n
    mean_variance = np.trace(covariance) / d
    spread = np.sum(covariance**2)
    fourth = weights @ np.sum(rows**2, axis=1) ** 2 / n
    above = spread - d * mean_variance**2
    shrinkage = min((fourth - spread) / n, above) / above if above > 0 else 0.0
    shrunk = (1 - shrinkage) * covariance
    shrunk[np.diag_indices(d)] += shrinkage * mean_variance
    return shrunk, shrinkage


def low_rank_whitening(X, mean, rank, weights=None):
    r"""Return `scale`, `directions` and `shrinkage` of a factor model of `X`.

    The covariance is :math:`\Sigma = F F^T + \Psi` with `rank` factors from the
    singular value decomposition of the standardised rows and `Psi` the variance they
    leave in each feature. With :math:`\Psi^{-1/2} F = Q \, diag(g) \, R^T`, Woodbury's
    identity gives :math:`\Sigma^{-1} = \Psi^{-1/2} (I - Q \, diag(g^2 / (1 + g^2)) \,
    Q^T) \Psi^{-1/2}`; no d x d matrix is formed. A row with a weight counts as often.
    """
    xp = namespace(X)
    total = X.shape[0] if weights is None else float(weights.sum())
    root = None if weights is None else weights**0.5
    # whose sums of squares and products are those of the repeated rows
    centred = times(to_double(X) - mean, root)  # (n, d)
    deviation = deviations(xp.sum(centred**2, axis=0) / total, mean)
    deviation = xp.where(deviation > 0, deviation, np.inf)
    standard = centred / deviation
    _, values, vectors = xp.linalg.svd(standard, full_matrices=False)
    factors = vectors[:rank].T * values[:rank] / total**0.5  # (d, rank)
    rest = standard - standard @ vectors[:rank].T @ vectors[:rank]
    left = xp.sum(rest**2, axis=0) / total
    # a feature that the factors explain whole would get infinite weight
    noise = xp.where(left > 1e-6, left, 1e-6)
    directions, strength, _ = xp.linalg.svd(
        factors / xp.sqrt(noise)[:, None], full_matrices=False
    )
    return (
        deviation * xp.sqrt(noise),
        directions,
        1 - 1 / xp.sqrt(1 + strength**2),
    )
