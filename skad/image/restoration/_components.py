"""What FRE and DFM share: principal components of a picture's pooled features."""

import copy
from numbers import Integral
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F  # noqa: N812

from skad._cross_fitting import folds
from skad._parameters import absent, with_parameters
from skad._sklearn import Interval
from skad.image._base import BackboneDetector, as_tensor, owners_of


def components(rows, center):
    """Return the mean (d,), variances (k,) and directions (k, d) of rows (n, d).

    Parameters
    ----------
    rows : tensor of shape (n, d)
        The rows.
    center : bool
        Whether the mean is taken off; else it is zero, and variances are mean squares.

    Returns
    -------
    mean, variances, directions : tensor
        The k directions that the rows vary in, that of the largest variance first.
    """
    mean = rows.mean(0) if center else torch.zeros_like(rows[0])
    _, values, directions = torch.linalg.svd(rows - mean, full_matrices=False)
    eps = torch.finfo(rows.dtype).eps * max(rows.shape)
    n_found = int((values > eps * values[0]).sum()) if len(values) else 0
    variances = values.square() / max(1, len(rows) - center)
    return mean, variances[:n_found], directions[:n_found]


@with_parameters
class PooledComponents(BackboneDetector):
    """Base of detectors on the components of what a network says of a whole picture.

    Parameters
    ----------
    pool_size : int, default=2
        Side of the squares of places that are averaged before; at most the grid.

    Attributes
    ----------
    mean_ : tensor of shape (n_picture_features,)
        What is taken off the features.
    components_ : tensor of shape (n_components, n_picture_features)
        The directions that are kept.
    explained_variance_ : tensor of shape (n_components,)
        The variance of the training pictures along each.
    """

    pool_size: int = 2
    # the score is the sum of the map
    pooling: Any = absent()
    quantile: Any = absent()
    smoothing: float = 0.0

    _resnet_layers = ("layer3",)
    _exports = True
    _centers = True
    _parameter_constraints = {
        "pool_size": [Interval(Integral, 1, None, closed="left")],
    }

    def _fit(self, X, y):
        self._fit_embedding(X)
        parts = []
        with torch.no_grad():
            for rows in self._batches(X.shape[0]):
                parts.append(self._pooled(as_tensor(X[rows])).flatten(1))
        rows, owners = torch.cat(parts), owners_of(X)
        self._find_components(rows)
        if not self._leaves_out(owners):
            return self._of_rows(rows)
        return self._cross_fitted(rows, owners.numpy())

    def _cross_fitted(self, rows, owners):
        """Return the anomaly (n,) of pictures by components that were found without."""
        member, known, found = copy.copy(self), np.unique(owners), []
        for fold in folds(len(known)):
            held = torch.as_tensor(np.isin(owners, known[fold]), device=rows.device)
            member._find_components(rows[~held])
            found.append(member._of_rows(rows[held]))
        return torch.cat(found)

    def _of_rows(self, rows):
        """Return the anomaly (b,) of pictures from their pooled features (b, m)."""
        return self._pool(self._parts(rows))

    def _find_components(self, rows):
        """Find the components of pooled features (n, m)."""
        found = components(rows, self._centers)
        n = self._n_kept(found[1])
        self.mean_, self.explained_variance_ = found[0], found[1][:n].clone()
        self.components_ = found[2][:n].clone()

    def _n_kept(self, variances):
        """Return how many components with `variances` (k,) are kept."""
        raise NotImplementedError

    def _pooled(self, x):
        """Return the averaged features (b, d, gh, gw) of pictures (b, h, w, c)."""
        features = self.embedding_.embed(x).permute(0, 3, 1, 2)
        size = [min(self.pool_size, n) for n in features.shape[2:]]
        return F.avg_pool2d(features, size)

    def _coded(self, pooled):
        """Return deviations (b, m) of features and their codes (b, k)."""
        rows = pooled.flatten(1) - self.mean_.to(pooled)
        return rows, rows @ self.components_.to(pooled).T

    def _parts(self, pooled):
        """Return what each feature adds to the anomaly, (b, m)."""
        rows, codes = self._coded(pooled)
        return (rows - codes @ self.components_.to(pooled)).square()

    def _patches(self, x):
        pooled = self._pooled(x)
        return self._parts(pooled).view(pooled.shape).sum(1)

    def _pool(self, patches):
        return patches.flatten(1).sum(1)

    def _inspect(self, X):
        with torch.no_grad():
            patches = self._patches(as_tensor(X))
            return self._pool(patches), self._as_map(self._upsampled(patches))
