"""What a principal subspace of the training data does not explain."""

from copy import deepcopy
from numbers import Integral, Real
from typing import Self

from scipy.special import gammaincinv

from skad._array import blocks, like, namespace, to_double
from skad._incremental import IncrementalMixin
from skad._left_out import LeftOutMixin
from skad._moments import deviations, mean_row
from skad._parameters import KW_ONLY, with_parameters
from skad._sklearn import Interval, RealNotInt, StrOptions
from skad.base import BaseDetector
from skad.subspace._left_out import left_out

# Smallest eigenvalue of correlations from which they are as good as the rows.
_INDEPENDENT = 1e-4


def compress(rows):
    """Return at most d rows with the same scatter as `rows`, of shape (n, d)."""
    n, d = rows.shape
    if n <= d:
        return rows
    xp = namespace(rows)
    if n > 4 * d:  # products take a tenth of the time of an orthogonal factor
        scatter = rows.T @ rows
        size = xp.sqrt(xp.linalg.diagonal(scatter))
        size = xp.where(size > 0, size, 1.0)
        correlation = scatter / size / size[:, None]
        least = xp.linalg.eigvalsh(correlation)[0]
        # The singular values keep all digits but those of the condition of what is left
        # without the features' scales (Demmel and Veselic, "Jacobi's method is more
        # accurate than QR", SIAM Journal on Matrix Analysis and Applications, 1992).
        if least > _INDEPENDENT:
            return xp.linalg.cholesky(correlation).T * size
    return xp.linalg.qr(rows)[1]


def scatter_factor(X, mean):
    """Return at most min(n, d) rows whose scatter is that of the centred `X`."""
    xp = namespace(X)
    n, d = X.shape
    factor = None
    # blocks of at least d rows, or each would cost as much as a whole one
    for rows in blocks(n, min(d, max(1, 2**20 // (2 * d)))):
        centred = to_double(X[rows]) - mean
        factor = centred if factor is None else xp.concat([factor, centred], axis=0)
        factor = compress(factor)
    return factor


def factored(X):
    """Return the number of rows, the mean (d,) and the scatter factor of `X`."""
    mean = mean_row(X)
    return X.shape[0], mean, scatter_factor(X, mean)


def merge_factors(first, second):
    """Return number of rows, mean (d,) and scatter factor of a union of rows."""
    (n, mean, factor), (m, other_mean, other_factor) = first, second
    # what was learned from arrays may go on with tensors
    mean, factor = like(mean, other_mean), like(factor, other_factor)
    xp = namespace(factor)
    shift = other_mean - mean
    between = shift * (n * m / (n + m)) ** 0.5
    stacked = xp.concat([factor, other_factor, between[None, :]], axis=0)
    return n + m, mean + shift * (m / (n + m)), compress(stacked)


def chi2_quantile(share, degrees):
    """Return the quantile of the chi-squared distribution."""
    return 2 * float(gammaincinv(degrees / 2, share))


def residual_limit(variances, confidence):
    """Return the control limit of the squared residual (Box 1954).

    A weighted sum of chi-squared variables, `variances` the descending weights, is
    taken for a multiple of one with the same mean and variance.
    """
    largest = float(variances[0])
    shares = variances / largest  # whose squares neither overflow nor vanish
    first, second = float(shares.sum()), float((shares**2).sum())
    return largest * second / first * chi2_quantile(confidence, first**2 / second)


@with_parameters(kw_only=False)
class PCAReconstruction(IncrementalMixin, LeftOutMixin, BaseDetector):
    r"""Rows that the main directions of the training data do not explain.

    Normal rows vary along :math:`k` principal directions :math:`v_j` with variances
    :math:`\lambda_j` around the mean :math:`\mu`. With :math:`t_j = v_j^T (x - \mu)`
    the anomaly is the reconstruction error :math:`Q` [2]_, Hotelling's :math:`T^2`
    [1]_, or the combined index of Yue and Qin [3]_,

    .. math:: Q(x) = \Big\| x - \mu - \sum_{j \le k} t_j v_j \Big\|^2, \qquad
        T^2(x) = \sum_{j \le k} t_j^2 / \lambda_j, \qquad
        \varphi(x) = Q(x) / \delta^2 + T^2(x) / \tau^2,

    with :math:`\delta^2` and :math:`\tau^2` the control limits of the two. The map
    sums to the score and is never negative: the squared residual of each feature, for
    :math:`T^2` the complete decomposition contributions [4]_
    :math:`(\sum_j v_{ji} t_j / \sqrt{\lambda_j})^2`, for :math:`\varphi` their
    weighted sum.

    Read more in the :ref:`User Guide <subspace>`.

    Parameters
    ----------
    n_components : int, float or None, default=0.95
        Number of directions :math:`k`, at most the rank of the training data; a float
        in (0, 1) is the share of the variance that they hold at least; None takes the
        directions with more variance than the average feature (Kaiser's rule).
        A share leaves at least one direction to the residual.
    measure : {"both", "reconstruction", "hotelling"}, default="both"
        :math:`\varphi`, :math:`Q` or :math:`T^2`. Normal rows that leave the subspace
        are found by the second, extreme rows inside it by the third.
    standardize : bool, default=False
        Divide the features by their standard deviations in the training data first.
    confidence : float, default=0.99
        Share of normal rows inside each control limit of ``measure="both"``: Box's
        approximation for :math:`\delta^2`, a quantile of the chi-squared distribution
        with :math:`k` degrees of freedom for :math:`\tau^2`.
    tol : float, default=1e-12
        Directions with less than `tol` times the largest variance count as without
        variance: no component, and a residual there weighs as if it had that much.

    Attributes
    ----------
    mean_ : ndarray of shape (n_features,)
        :math:`\mu`, in float64.
    scale_ : ndarray of shape (n_features,)
        What the features are divided by: ones without `standardize`.
    components_ : ndarray of shape (n_components_, n_features)
        :math:`v_j`.
    explained_variance_ : ndarray of shape (n_components_,)
        :math:`\lambda_j`.
    n_components_ : int
        :math:`k`.
    residual_limit_, hotelling_limit_ : float
        :math:`\delta^2` and :math:`\tau^2`.
    n_samples_seen_ : int
        Training rows.

    See Also
    --------
    KernelPCAReconstruction : The same in a kernel's feature space.
    MatrixSketch : The same from a sketch of the rows, without a mean.
    skad.density.Mahalanobis : All directions, each by its own variance.

    Notes
    -----
    ``contamination="auto"`` takes each training row out of the mean, the variances and
    the main directions; with :math:`T^2` of all directions exactly, else without how
    the row's residual varies together with other directions beside the subspace. The
    number of directions, scales and control limits stay.

    `fit` costs O(n d min(n, d)) in double precision whatever the dtype of `X`, through
    the triangular factors of blocks of rows, from products where the features are far
    from dependent and else orthogonal: variances far below the largest keep their
    digits, and more features than rows need no d x d matrix. The factors add up:
    `partial_fit` and `merge` learn exactly what `fit` on all rows does. Scoring costs
    O(k d) a row and runs where `X` lives.

    The share was chosen over 25 sources of tables
    (``benchmarks/results/defaults_pcareconstruction.tsv``). A small one makes the score
    close to the distance to the mean, one near 1 close to that of `Mahalanobis`; where
    the features obey relations, the residual alone (``n_components=0.9,
    measure="reconstruction"``) finds what breaks them.

    References
    ----------
    .. [1] H. Hotelling, "Multivariate quality control", Techniques of Statistical
       Analysis, 1947.
    .. [2] J. E. Jackson and G. S. Mudholkar, "Control procedures for residuals
       associated with principal component analysis", Technometrics, 1979.
    .. [3] H. H. Yue and S. J. Qin, "Reconstruction-based fault identification using a
       combined index", Industrial & Engineering Chemistry Research, 2001.
    .. [4] C. F. Alcala and S. J. Qin, "Reconstruction-based contribution for process
       monitoring", Automatica, 2009, section 2.3.
    .. [5] G. E. P. Box, "Some theorems on quadratic forms applied in the study of
       analysis of variance problems, I", Annals of Mathematical Statistics, 1954.

    Examples
    --------
    >>> from skad.subspace import PCAReconstruction
    >>> X = [[0.0, 0.0], [1.0, 1.1], [2.0, 1.9], [3.0, 3.0], [1.0, 3.0]]
    >>> detector = PCAReconstruction(
    ...     1, measure="reconstruction", contamination=0.2).fit(X)
    >>> detector.predict(X)
    array([ 1,  1,  1,  1, -1])
    >>> detector.transform([[1.0, 3.0]]).round(2)
    array([[0.68, 0.49]])
    """

    n_components: float | None = 0.95
    _: KW_ONLY
    measure: str = "both"
    standardize: bool = False
    confidence: float = 0.99
    tol: float = 1e-12

    _map_sums_to_score = True
    _hiding_times = 1e5
    _parameter_constraints = {
        "n_components": [
            Interval(Integral, 1, None, closed="left"),
            Interval(RealNotInt, 0, 1, closed="neither"),
            None,
        ],
        "measure": [StrOptions({"both", "reconstruction", "hotelling"})],
        "standardize": ["boolean"],
        "confidence": [Interval(Real, 0, 1, closed="neither")],
        "tol": [Interval(Real, 0, 1, closed="left")],
    }

    def merge(self, other) -> Self:
        """Return a detector fitted on this one's and another's training rows.

        Parameters
        ----------
        other : PCAReconstruction
            Fitted with the same parameters on other rows with the same features.

        Returns
        -------
        merged : PCAReconstruction
            As if fitted on all the rows; its threshold comes from an even sample of
            them, as after `partial_fit`.
        """
        self._check_mergeable(other)
        merged = deepcopy(self)
        merged._set_factor(merge_factors(self._known(), other._known()))
        merged._merge_sample(other)
        return merged

    def _check_parameters(self, X):
        whole = isinstance(self.n_components, Integral)
        limit = X.shape[1] if self.measure == "hotelling" else X.shape[1] - 1
        if whole and self.n_components > limit:
            raise ValueError(
                f"n_components={self.n_components} must be at most {limit} for "
                f"measure={self.measure!r} with n_features={X.shape[1]}."
            )

    def _row_elements(self):
        # of a dozen arrays; those of few features stay in the cache, and many features
        # want blocks of more rows for their products
        return self.n_features_in_ * (32 if self.n_features_in_ <= 100 else 8)

    def _fit(self, X, y):
        fresh, known = factored(X), hasattr(self, "n_samples_seen_")
        self._set_factor(merge_factors(self._known(), fresh) if known else fresh)

    def _fit_blocks(self, blocks):
        self._set_factor(blocks.reduce(lambda _, X: factored(X), merge_factors))

    def _known(self):
        return self.n_samples_seen_, self.mean_, self._factor_

    def _set_factor(self, known):
        self.n_samples_seen_, self.mean_, self._factor_ = known
        factor, freedom = self._factor_, max(self.n_samples_seen_ - 1, 1)
        xp = namespace(factor)
        self.scale_ = xp.ones_like(self.mean_)
        if self.standardize:
            variance = xp.sum(factor**2, axis=0) / self.n_samples_seen_
            deviation = deviations(variance, self.mean_)
            self.scale_ = xp.where(deviation > 0, deviation, 1.0)
        _, values, vectors = xp.linalg.svd(factor / self.scale_, full_matrices=False)
        variances = values**2 / freedom
        floor = self.tol * float(variances[0])
        rank = int(xp.sum(variances > floor))
        k = self.n_components_ = self._count(variances[:rank])
        self.components_, self.explained_variance_ = vectors[:k], variances[:k]
        self.hotelling_limit_ = chi2_quantile(self.confidence, k) if k else 1.0
        self._beside_, self._variance_beside_ = vectors[k:], variances[k:]
        rest = variances[k:rank]
        self.residual_limit_ = floor if floor > 0 else 1.0
        if len(rest):
            self.residual_limit_ = residual_limit(rest, self.confidence)

    def _count(self, variances):
        """Return how many of the directions with variance are kept."""
        rank, d = len(variances), self.n_features_in_
        if isinstance(self.n_components, Integral):
            return min(self.n_components, rank)
        xp = namespace(variances)
        if self.n_components is None:
            count = int(xp.sum(variances > xp.sum(variances) / d))
        else:
            share = xp.cumulative_sum(variances) / xp.sum(variances)
            count = int(xp.sum(share < self.n_components)) + 1
        if self.measure == "hotelling":
            return min(max(count, 1), rank)
        return min(count, rank, d - 1)

    def _left_out(self, X):
        """Return the anomaly (b,) of training rows, each without itself."""
        xp = namespace(self._factor_)
        n = self.n_samples_seen_
        gain, k = n / (n - 1), self.n_components_
        # in this unit squares of squares neither overflow nor vanish
        unit = float(self.explained_variance_[0]) ** 0.5 if k else 1.0
        # the training rows lie in the components and the directions beside them
        directions = xp.concat([self.components_, self._beside_])
        centred = like(X, self.mean_) - self.mean_
        squares = directions / (self.scale_ * unit) @ centred.T
        squares *= squares  # (k + r, b)
        residual, leverage = left_out(
            squares[:k].T,
            self.explained_variance_ / unit**2 * (n - 1),
            xp.sum(squares[k:], axis=0),
            self._variance_beside_ / unit**2 * (n - 1) @ squares[k:],
            gain,
            self.tol * (n - 1),
        )
        residual = gain**2 * unit**2 * residual
        extreme = gain**2 * max(n - 2, 1) * leverage
        if self.measure == "reconstruction":
            return residual
        if self.measure == "hotelling":
            return extreme
        return residual / self.residual_limit_ + extreme / self.hotelling_limit_

    def _map(self, X):
        components = like(self.components_, X)
        centred = (X - like(self.mean_, X)) / like(self.scale_, X)
        along = centred @ components.T  # (b, k)
        residual = (centred - along @ components) ** 2
        if self.measure == "reconstruction":
            return residual
        deviation = namespace(X).sqrt(like(self.explained_variance_, X))
        extreme = ((along / deviation) @ components) ** 2
        if self.measure == "hotelling":
            return extreme
        return residual / self.residual_limit_ + extreme / self.hotelling_limit_
