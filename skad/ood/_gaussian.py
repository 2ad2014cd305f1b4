"""Gaussians of classes with one covariance, and the way to the nearest of them."""

import numpy as np

from skad._array import blocks, is_torch, like, namespace, to_double, to_numpy
from skad._moments import deviations, mean_row
from skad.density._covariance import exact_whitening

# The deviation of a unit that never fired, in the least deviation of another. Faint
# activity in a few new rows is no sign of anything, and with less would outrank all.
SILENT = 0.01


def for_products(features):
    """Return tensors on the host as arrays, unless gradients are wanted.

    NumPy forms large products faster there, and a matrix times its transpose by half.
    """
    if is_torch(features) and features.device.type == "cpu":
        return features if features.requires_grad else features.numpy()
    return features


def class_means(features, codes):
    """Return the mean (k, f) of the rows (n, f) of each class, in float64."""
    means = [
        mean_row(features[like(np.flatnonzero(codes == k), features, dtype="keep")])
        for k in np.unique(codes)
    ]
    return namespace(means[0]).stack(means)


class TiedGaussian:
    """Gaussians around the classes' means with the covariance of the residuals.

    Parameters
    ----------
    features : array or tensor of shape (n, f)
        Rows.
    codes : ndarray of shape (n,)
        Their classes.
    tol : float
        Eigenvalues of the correlation below `tol` times the largest are raised to it.

    Attributes
    ----------
    means : ndarray of shape (k, f)
    whitening : ndarray of shape (f, f)
        `W` with :math:`W^T W` the inverse of the covariance.
    exact : ndarray of shape (f, r)
        Whitened axes of directions in which the residuals never varied.
    """

    def __init__(self, features, codes, tol):
        features = for_products(features)
        means = class_means(features, codes)
        place = np.unique(codes, return_inverse=True)[1]
        scatter = 0
        for rows in blocks(*features.shape):
            own = means[like(place[rows], means, dtype="keep")]
            centred = to_double(features[rows]) - own  # (b, f)
            scatter = scatter + centred.T @ centred
        self.means, covariance = to_numpy(means), to_numpy(scatter) / len(codes)
        largest = np.abs(self.means).max(axis=0)
        scale = deviations(np.diagonal(covariance), largest)
        self.whitening, self.exact, _ = exact_whitening(
            covariance, scale, largest, tol, len(codes) - len(self.means), SILENT
        )

    # What files of 0.1 have, which leave such directions out.
    exact = np.empty((0, 0))

    def nearest(self, features):
        """Return squared distances (b,) and whitened ways (b, f) to the nearest mean.

        Products find the nearest mean; its distance is then the sum of squares, so that
        nothing cancels.
        """
        if self.exact.shape[1]:
            features = to_double(features)  # rounding is large in these directions
        xp = namespace(features)
        whitening = like(self.whitening, features).T
        means = like(self.means, features)
        away = (features - means[0]) @ whitening  # (b, f)
        if len(means) > 1:
            whitened = (means - means[0]) @ whitening  # (k, f)
            squares = xp.vecdot(whitened, whitened) - 2 * (away @ whitened.T)
            away -= whitened[xp.argmin(squares, axis=1)]
        return xp.vecdot(away, away), away

    def gradient(self, features):
        """Return the gradient (b, f) of the squared distance to the nearest mean."""
        away = 2 * self.nearest(features)[1]
        return like(away @ like(self.whitening, away), features)
