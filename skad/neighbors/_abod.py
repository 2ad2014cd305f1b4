"""Angle-based outlier detection: from far outside all others lie in one direction."""

from numbers import Integral

import numpy as np

from skad._array import blocks, device_of, like, namespace, to_double
from skad._parameters import KW_ONLY, with_parameters
from skad._sklearn import Interval
from skad.neighbors._around import AroundRows

# Least variance, as a share of the mean square: below, rounding is all there is. The
# first of pairs that are compared one by one, the second of sums over all pairs.
_ROUNDING, _ROUNDING_OF_SUMS = 1e-30, 1e-13
_TINY = 1e-300
# Squared distances of equal rows, beside that of the farthest of the others.
_EQUAL = 1e-60
# With fewer others there is no variance between pairs.
_FEWEST = 3


def safe_inverse(values):
    """Return 1 / values, 0 where they are 0."""
    xp = namespace(values)
    return xp.where(values > 0, 1 / xp.where(values > 0, values, 1.0), 0.0)


def variance_of_pairs(difference, weighted):
    """Return the angle-based factors (b,) from differences (b, k, d) to other rows."""
    xp = namespace(difference)
    squares = xp.sum(difference**2, axis=2)
    inverse = safe_inverse(squares)  # (b, k)
    products = difference @ xp.matrix_transpose(difference)  # (b, k, k)
    products = products * (inverse[:, :, None] * inverse[:, None, :])
    weight = xp.sqrt(inverse) if weighted else xp.astype(inverse > 0, squares.dtype)
    weight = weight[:, :, None] * weight[:, None, :]
    k = difference.shape[1]
    # each pair once: of i and j with i < j
    weight = weight * like(np.triu(np.ones((k, k)), 1), weight)
    total = xp.sum(weight, axis=(1, 2))
    total = xp.where(total > 0, total, 1.0)
    mean = xp.sum(weight * products, axis=(1, 2)) / total
    away = (products - mean[:, None, None]) ** 2
    factor = xp.sum(weight * away, axis=(1, 2)) / total
    return xp.maximum(factor, _ROUNDING * mean**2)


def variance_of_all(difference, weighted):
    """Return what `variance_of_pairs` does, in O(k d^2) a row.

    Sums over pairs of squares of products of vectors are the square of a sum of outer
    products; what a vector has with itself is taken off.
    """
    xp = namespace(difference)
    squares = xp.sum(difference**2, axis=2)
    inverse = safe_inverse(squares)
    weight = xp.sqrt(inverse) if weighted else xp.astype(inverse > 0, squares.dtype)
    vectors = difference * inverse[:, :, None]
    pulled = vectors * weight[:, :, None]
    outer = xp.matrix_transpose(pulled) @ vectors  # (b, d, d)
    total = xp.sum(weight, axis=1) ** 2 - xp.sum(weight**2, axis=1)
    total = xp.where(total > 0, total, 1.0)
    own = weight**2 * inverse
    first = xp.sum(xp.sum(pulled, axis=1) ** 2, axis=1) - xp.sum(own, axis=1)
    second = xp.sum(outer**2, axis=(1, 2)) - xp.sum(own * inverse, axis=1)
    first, second = first / total, second / total
    return xp.maximum(second - first**2, _ROUNDING_OF_SUMS * second)


@with_parameters(kw_only=False)
class ABOD(AroundRows):
    r"""Rows from which all others are seen in much the same direction.

    From a row amid the others these lie on all sides, from one outside in one
    direction, and far. The angle-based outlier factor is the variance over pairs of
    other rows :math:`y, z` of

    .. math:: s(y, z) = \frac{\langle y - x, z - x \rangle}
        {\lVert y - x \rVert^2 \lVert z - x \rVert^2},

    where a pair counts :math:`1 / (\lVert y - x \rVert \lVert z - x \rVert)`, and the
    anomaly is :math:`a(x) = -\log \mathrm{ABOF}(x)`: the paper's order, in numbers that
    stay of one size. ``score_samples`` is :math:`-a`. The others are the `k` nearest
    training rows (FastABOD), or all. The map has what each feature adds to the mean
    distance from them: it sums to that and not to the anomaly, which grows by four for
    each factor :math:`e` of the distance, and with how alike the directions are.

    Read more in the :ref:`User Guide <neighbors>`.

    Parameters
    ----------
    n_neighbors : int or None, default=10
        Number `k` of the nearest training rows, at least 3. None is all of them, the
        paper's exact factor. Where there are fewer it warns and takes all.
    weighted : bool, default=True
        Whether near pairs count more, as in the paper. False is the plain variance.

    See Also
    --------
    KNN : The distance alone.

    Notes
    -----
    `fit` costs O(n^2 d) and k^2 d a row, scoring O(n d + k^2 d); with all rows
    O(n d^2) a row, for the sum over n^2 pairs is one over rows of outer products.
    Rows equal to :math:`x` have no direction and are left out, the row itself among
    them; where fewer than three others are left, the anomaly is the lowest of the
    training rows. Scores do not change when rows are shifted or rotated; scaling all
    features adds a constant.

    Without weights the variance is PyOD's `ABOD`, whose score is minus it.

    References
    ----------
    .. [1] H.-P. Kriegel, M. Schubert and A. Zimek, "Angle-based outlier detection in
       high-dimensional data", ACM SIGKDD International Conference on Knowledge
       Discovery and Data Mining, 2008, definition 1, and FastABOD.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.neighbors import ABOD
    >>> X = np.random.default_rng(0).normal(size=(200, 3))
    >>> detector = ABOD().fit(X)
    >>> detector.predict([[0.0, 0.0, 0.0], [5.0, 0.0, 0.0]])
    array([ 1, -1])
    >>> detector.transform([[5.0, 0.0, 0.0]]).argmax()
    np.int64(0)
    """

    n_neighbors: int | None = 10
    _: KW_ONLY
    weighted: bool = True

    _parameter_constraints = {
        "n_neighbors": [Interval(Integral, _FEWEST, None, closed="left"), None],
        "weighted": ["boolean"],
    }

    def _check_parameters(self, X):
        if self.n_neighbors is not None:
            super()._check_parameters(X)

    def _fit_search(self, X):
        if self.n_neighbors is not None:
            super()._fit_search(X)
            return
        self.n_neighbors_ = X.shape[0] - 1
        self.n_samples_fit_ = X.shape[0]
        self._bank_ = to_double(X)

    def _training_rows(self):
        return self._bank_ if self.n_neighbors is None else super()._training_rows()

    def _fit(self, X, y):
        xp = namespace(X)
        self._fit_search(X)
        self._least_ = np.nan
        anomaly = self._of_training(X, self._anomaly, "pairs")
        known = anomaly[~xp.isnan(anomaly)]
        self._least_ = float(xp.min(known)) if known.shape[0] else 0.0
        return xp.where(xp.isnan(anomaly), self._least_, anomaly)

    def _judge(self, difference, indices):
        xp = namespace(difference)
        squares = xp.sum(difference**2, axis=2)
        # in units of the farthest, so that no power of a distance overflows
        unit = xp.sqrt(xp.max(squares, axis=1))
        unit = xp.where(unit > 0, unit, 1.0)
        difference = difference / unit[:, None, None]
        apart = xp.sum(difference**2, axis=2) > _EQUAL
        difference = xp.where(apart[:, :, None], difference, 0.0)
        n_others = xp.sum(xp.astype(apart, xp.int64), axis=1)
        function = variance_of_all if self.n_neighbors is None else variance_of_pairs
        factor = xp.clip(function(difference, self.weighted), _TINY, None)
        anomaly = 4 * xp.log(unit) - xp.log(factor)
        return xp.where(n_others >= _FEWEST, anomaly, self._least_)

    def _anomaly(self, X):
        k, d = self.n_neighbors_, X.shape[1]
        if self.n_neighbors is not None:
            return self._judged(X, self._judge, 4 * k * (k + d))
        bank, rows = like(self._bank_, to_double(X)), to_double(X)
        return namespace(X).concat(
            [
                self._judge(rows[part, None, :] - bank, None)
                for part in blocks(X.shape[0], 6 * bank.shape[0] * d, device_of(X))
            ]
        )

    def _map(self, X):
        xp = namespace(X)
        if self.n_neighbors is not None:
            indices = self._neighbors(X)[1]
            return self._folded(lambda p, d, r: xp.mean(p, axis=1), X, indices)
        bank, rows, maps = like(self._bank_, to_double(X)), to_double(X), []
        for part in blocks(X.shape[0], 6 * bank.shape[0] * X.shape[1], device_of(X)):
            squares = (rows[part, None, :] - bank) ** 2
            inverse = safe_inverse(xp.sqrt(xp.sum(squares, axis=2)))[:, :, None]
            maps.append(xp.sum(squares * inverse, axis=1) / self.n_neighbors_)
        return xp.concat(maps)
