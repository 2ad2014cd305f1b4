"""Kernel density of the training data."""

from math import lgamma, log, pi
from numbers import Real

import numpy as np

from skad._array import (
    blocks,
    device_of,
    is_torch,
    like,
    namespace,
    slices,
    to_numpy,
)
from skad._distances import amend, middle, trusted
from skad._parameters import KW_ONLY, with_parameters
from skad._sklearn import Interval, StrOptions
from skad._weights import SampleWeightMixin
from skad.base import BaseDetector

# Kernel values held at once: 4 MB of float64 in a reused buffer stay near the cache.
_TILE_ELEMENTS = 2**19
_TILE_ROWS = 256
# Tiles on a GPU are so many times taller and wider.
_GPU_FACTOR = 8


def log_norm(kernel, d, bandwidth):
    """Return the logarithm of the integral of the kernel over `d` dimensions."""
    if kernel == "gaussian":
        return d / 2 * log(2 * pi) + d * log(bandwidth)
    # surface of the unit sphere times the integral of r^(d - 1) exp(-r)
    sphere = log(2) + d / 2 * log(pi) - lgamma(d / 2)
    return sphere + lgamma(d) + d * log(bandwidth)


def rule_of_thumb(rule, n, d):
    """Return Scott's or Silverman's bandwidth for features of unit variance."""
    if rule == "scott":
        return n ** (-1 / (d + 4))
    return (n * (d + 2) / 4) ** (-1 / (d + 4))


def row_keys(X):
    """Return a 64-bit hash (n,) of the bits of each row, the same wherever it lives."""
    return in_blocks(_keys_of, X)


def _keys_of(X):
    xp = namespace(X)
    bits = (X + 0.0).view(xp.int32 if X.dtype == xp.float32 else xp.int64)  # no -0.0
    bits = xp.astype(bits, xp.int64)
    # the finalizer of splitmix64, with a seed of its own for every column
    bits = bits + like(np.arange(X.shape[1]) * 0x1E3779B97F4A7C15, X, dtype="keep")
    bits = (bits ^ (bits >> 30)) * 0x3F58476D1CE4E5B9
    bits = (bits ^ (bits >> 27)) * 0x14D049BB133111EB
    bits = bits ^ (bits >> 31)
    return xp.sum(bits, axis=1)


def sorted_keys(X):
    """Return the sorted hashes of the rows, and the order that sorts them."""
    keys = to_numpy(row_keys(X))
    order = np.argsort(keys, kind="stable")
    return keys[order], order


def _squared_norms(X):
    return namespace(X).sum(X**2, axis=1)


def in_blocks(function, X):
    """Return what `function` says of each row (n,), a block at a time."""
    found = [function(X[rows]) for rows in blocks(len(X), X.shape[1])]
    return namespace(X).concat(found)


@with_parameters(kw_only=False)
class KDE(SampleWeightMixin, BaseDetector):
    r"""Rows where the density of the training rows, smoothed by a kernel, is low.

    Normal rows lie close to training rows :math:`x_1, \dots, x_n`. The anomaly is the
    negative logarithm of the Parzen estimate [1]_ of the density,

    .. math:: a(x) = -\log \frac1{n Z} \sum_{j=1}^n e^{-e_j(x)}, \qquad
        e_j(x) = \frac{\|x - x_j\|^2}{2 h^2},

    with the bandwidth :math:`h` and the kernel's integral :math:`Z`
    (:math:`e_j = \|x - x_j\| / h` for the exponential kernel), so that
    ``score_samples`` is scikit-learn's log density. A row that is itself a training
    row, bit by bit, does not prop up its own density: that one training row is left
    out of its sum. The map is the relevance

    .. math:: m_i(x) = \sum_j p_j \, \frac{(x_i - x_{ji})^2}{2 h^2}, \qquad
        p_j = \frac{e^{-e_j}}{\sum_l e^{-e_l}},

    each feature's part of the distance to the training rows that make the density
    (the difference divided by :math:`h \|x - x_j\|` for the exponential kernel). It
    sums to :math:`a(x) + H(p) - \log (n Z)` with the entropy :math:`H(p)`, between 0
    and :math:`\log n`.

    Read more in the :ref:`User Guide <density>`.

    Parameters
    ----------
    bandwidth : float or {"scott", "silverman"}, default=1.0
        :math:`h`, in the units of the features: scale them first. The rules
        are scikit-learn's, :math:`n^{-1 / (d + 4)}` and
        :math:`(n (d + 2) / 4)^{-1 / (d + 4)}`, made for features of unit variance.
    kernel : {"gaussian", "exponential"}, default="gaussian"
        Kernels with a finite support have no place here: beyond it all rows would be
        equally anomalous.
    device : str, default="auto"
        Where the kernel values are computed: "cpu", "cuda", "cuda:1", "mps", or
        "auto" (a tensor's own device; for arrays a GPU where it repays the trip).

    Attributes
    ----------
    bandwidth_ : float
        :math:`h`.
    rows_ : ndarray or tensor of shape (n_samples, n_features)
        The training rows.
    device_ : str
        Where the fit ran.

    See Also
    --------
    GMM : A few clouds with covariances of their own instead of one per row.
    sklearn.neighbors.KernelDensity : The density estimate, searched with a tree.

    Notes
    -----
    Exact, also for rows so far out that scikit-learn's tree search loses the digits of
    their log density. O(n d) a row, O(n^2 d) for the training scores, in tiles of
    constant memory; the training rows are held twice. Squared distances come from
    products of the centred rows, so that their absolute error is the machine's
    precision times the squared distance to the mean.

    Leaving the own row out lowers all training densities by the same increasing
    function, so ranks and flagged training rows are those of the plain estimate; what
    changes is the threshold, which then holds for new rows as well. In 20 dimensions
    the plain estimate would flag almost every new row.

    With `sample_weight` a kernel counts as often as its row and :math:`n` is the sum of
    the weights, in the rules for the bandwidth as well. Of an own row one repetition is
    left out, all of it where its weight is below 1.

    References
    ----------
    .. [1] E. Parzen, "On estimation of a probability density function and mode", Annals
       of Mathematical Statistics, 1962.
    .. [2] B. W. Silverman, "Density Estimation for Statistics and Data Analysis",
       Chapman and Hall, 1986, section 4.3.
    .. [3] D.-Y. Yeung and C. Chow, "Parzen-window network intrusion detectors",
       International Conference on Pattern Recognition, 2002.

    Examples
    --------
    >>> from skad.density import KDE
    >>> X = [[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0], [0.5, 5.0]]
    >>> detector = KDE(contamination=0.2).fit(X)
    >>> detector.predict(X)
    array([ 1,  1,  1,  1, -1])
    >>> detector.transform([[0.5, 4.0]]).round(2)
    array([[0.  , 0.63]])
    """

    bandwidth: float | str = 1.0
    _: KW_ONLY
    kernel: str = "gaussian"
    device: str = "auto"

    _honesty = "leave one out"
    _parameter_constraints = {
        "bandwidth": [
            Interval(Real, 0, None, closed="neither"),
            StrOptions({"scott", "silverman"}),
        ],
        "kernel": [StrOptions({"gaussian", "exponential"})],
        "device": [str],
    }

    def score(self, X, y=None) -> float:
        """Return the log-likelihood of samples: the sum of their log densities.

        A search without `scoring` looks for the largest.

        Parameters
        ----------
        X : array-like or tensor of shape (n_samples, n_features)
            The samples.
        y : array-like of shape (n_samples,), default=None
            Ignored.

        Returns
        -------
        log_likelihood : float
            The sum.
        """
        return float(self.score_samples(X).sum())

    def _fit_work(self, X):
        return X.shape[0] ** 2 * X.shape[1]

    def _row_elements(self):
        return max(self.n_features_in_, 1024)  # the tiles bound memory

    # How often each training row counts, (n_samples,); None is once.
    _weights_ = None

    def _fit(self, X, y, sample_weight=None):
        n, d = X.shape
        if sample_weight is not None:
            n, self._weights_ = float(sample_weight.sum()), sample_weight
        if isinstance(self.bandwidth, str):
            self.bandwidth_ = rule_of_thumb(self.bandwidth, n, d)
        else:
            self.bandwidth_ = float(self.bandwidth)
        self.rows_ = X.clone() if is_torch(X) else X.copy()
        self._mean_ = middle(X)  # which a stray value leaves where it is
        self._scaled_ = self._scale(X)
        self._norms_ = in_blocks(_squared_norms, self._scaled_)
        self._keys_ = sorted_keys(X)

    def _honest_anomaly(self, X, y, anomaly, **params):
        return self._seen_anomaly(X, anomaly)

    def _scale(self, X):
        scaled = X - like(self._mean_, X)
        scaled /= self.bandwidth_
        return scaled

    def _own_rows(self, X):
        """Return for each row the index of the equal training row, or -1."""
        keys, order = self._keys_
        rows = like(self.rows_, X)
        if str(rows.dtype) != str(self.rows_.dtype):
            keys, order = sorted_keys(rows)
        position = np.searchsorted(keys, to_numpy(row_keys(X)))
        index = order[np.minimum(position, len(order) - 1)]
        candidates = rows[like(index, X, dtype="keep")]
        equal = namespace(X).all(candidates == X, axis=1)
        return np.where(to_numpy(equal), index, -1)

    def _tiles(self, X, own):
        r"""Yield rows, training rows and the exponents :math:`e_j` between them.

        The exponents live in a buffer that the next tile overwrites; that of the row
        itself is the largest number. Weights are in them, as minus their logarithms.
        """
        xp = namespace(X)
        queries, targets = self._scale(X), like(self._scaled_, X)
        norms, target_norms = xp.sum(queries**2, axis=1), like(self._norms_, X)
        far, far_targets = norms > trusted(X), target_norms > trusted(X)
        doubtful = bool(xp.any(far)) and bool(xp.any(far_targets))
        gpu = 1 if str(device_of(X)) == "cpu" else _GPU_FACTOR
        height = min(len(X), _TILE_ROWS * gpu)
        width = min(len(targets), max(1, _TILE_ELEMENTS * gpu**2 // height))
        buffer = xp.empty(height * width, dtype=X.dtype, device=device_of(X))
        largest, logs = float(xp.finfo(X.dtype).max), None
        if self._weights_ is not None:
            logs = like(np.log(self._weights_), X)
            others = np.clip(self._weights_ - 1, 0, None)
            with np.errstate(divide="ignore"):
                left_out = np.log(self._weights_) - np.log(others)
        for rows in slices(len(X), height):
            for columns in slices(len(targets), width):
                shape = rows.stop - rows.start, columns.stop - columns.start
                tile = buffer[: shape[0] * shape[1]].reshape(shape)
                xp.matmul(queries[rows], targets[columns].T, out=tile)
                tile *= -2
                tile += norms[rows, None]
                tile += target_norms[columns]
                xp.clip(tile, 0, None, out=tile)
                if doubtful:
                    amend(
                        tile,
                        X[rows],
                        like(self.rows_[columns], X),
                        far[rows],
                        far_targets[columns],
                        self._mean_,
                        self.bandwidth_**2,
                        1 / self.bandwidth_**2,
                    )
                if self.kernel == "gaussian":
                    tile *= 0.5
                else:
                    xp.sqrt(tile, out=tile)
                if logs is not None:
                    tile -= logs[columns]
                place = own[rows] - columns.start
                hit = np.flatnonzero((place >= 0) & (place < shape[1]))
                if len(hit):
                    where = like(np.stack([hit, place[hit]]), X, dtype="keep")
                    if logs is None:
                        tile[where[0], where[1]] = largest
                    else:
                        fewer = like(left_out[own[rows][hit]], X)
                        fewer = tile[where[0], where[1]] + fewer
                        tile[where[0], where[1]] = xp.clip(fewer, None, largest)
                yield rows, columns, tile

    def _log_sum(self, X, own):
        r"""Return the logarithm of :math:`\sum_j e^{-e_j}`, of shape (b,)."""
        xp = namespace(X)
        nearest = xp.empty(len(X), dtype=X.dtype, device=device_of(X))
        total = xp.zeros_like(nearest)
        for rows, columns, tile in self._tiles(X, own):
            low = xp.min(tile, axis=1)
            if columns.start:
                low = xp.minimum(low, nearest[rows])
                total[rows] *= xp.exp(low - nearest[rows])
            nearest[rows] = low
            xp.subtract(low[:, None], tile, out=tile)
            total[rows] += xp.sum(xp.exp(tile, out=tile), axis=1)
        return xp.log(total) - nearest

    def _anomaly(self, X):
        own = self._own_rows(X)
        if self._weights_ is None:
            n = len(self.rows_) - like((own >= 0), X)
        else:
            once = np.where(own >= 0, np.minimum(self._weights_, 1)[own], 0)
            n = like(self._weights_.sum() - once, X)
        norm = log_norm(self.kernel, X.shape[1], self.bandwidth_)
        return namespace(X).log(n) + norm - self._log_sum(X, own)

    def _map(self, X):
        xp = namespace(X)
        own = self._own_rows(X)
        log_sum = self._log_sum(X, own)
        queries, targets = self._scale(X), like(self._scaled_, X)
        weight = xp.zeros_like(log_sum)
        first, second = xp.zeros_like(queries), xp.zeros_like(queries)
        for rows, columns, tile in self._tiles(X, own):
            if self.kernel == "exponential":
                distance = tile
                if self._weights_ is not None:
                    distance = tile + like(np.log(self._weights_), X)[columns]
                distance = xp.where(distance > 0, distance, xp.inf)
            xp.subtract(-log_sum[rows, None], tile, out=tile)
            xp.exp(tile, out=tile)
            if self.kernel == "gaussian":
                tile *= 0.5
            else:
                tile /= distance
            weight[rows] += xp.sum(tile, axis=1)
            first[rows] += tile @ targets[columns]
            second[rows] += tile @ targets[columns] ** 2
        # around the weighted mean, so that a row far from all loses no digits
        mean = first / xp.where(weight > 0, weight, 1.0)[:, None]
        spread = xp.clip(second - mean * first, 0, None)
        return weight[:, None] * (queries - mean) ** 2 + spread
