"""Leverage and projection distance from a sketch of the training rows."""

from copy import copy, deepcopy
from numbers import Integral, Real
from typing import Self

from skad._array import blocks, like, n_blocks, namespace, to_double
from skad._incremental import IncrementalMixin
from skad._left_out import LeftOutMixin
from skad._parameters import KW_ONLY, with_parameters
from skad._sklearn import Interval, StrOptions
from skad.base import BaseDetector
from skad.subspace._left_out import left_out


def shrink(rows, size):
    r"""Return at most `size` rows that stand for `rows`, and how much was lost.

    One step of frequent directions: with :math:`\delta` the square of singular value
    ``size + 1``, every squared singular value is lowered by :math:`\delta` down to
    zero, so that for each unit vector `x`
    :math:`0 \le \|A x\|^2 - \|B x\|^2 \le \delta`.
    """
    xp = namespace(rows)
    _, values, vectors = xp.linalg.svd(rows, full_matrices=False)
    if len(values) <= size:
        return values[:, None] * vectors, 0.0
    loss = float(values[size]) ** 2
    kept = xp.sqrt(xp.clip(values[:size] ** 2 - loss, 0, None))
    return kept[:, None] * vectors[:size], loss


def _sketch_on(detector, X, known):
    """Return what a MatrixSketch knows after the rows `X` on top of `known`."""
    detector = copy(detector)
    vars(detector).update(known)
    detector._sketch(X)
    names = ("n_samples_seen_", "sketch_error_", "sketch_", "_buffer_")
    return {name: getattr(detector, name) for name in names}


@with_parameters(kw_only=False)
class MatrixSketch(IncrementalMixin, LeftOutMixin, BaseDetector):
    r"""Rows that stand out from the main directions of a stream.

    Let :math:`v_j` and :math:`\sigma_j` be the leading right singular vectors and
    singular values of the training rows :math:`A`. The anomaly of a row :math:`x` is
    its rank-k leverage score or its rank-k projection distance [1]_,

    .. math:: L(x) = \sum_{j \le k} \frac{(v_j^T x)^2}{\sigma_j^2}, \qquad
        T(x) = \|x\|^2 - \sum_{j \le k} (v_j^T x)^2,

    with the singular vectors of a sketch of :math:`l` rows, made in one pass over the
    data by frequent directions [2]_, in place of those of :math:`A`. The map sums to
    the score and is never negative: the squared residual of each feature for
    :math:`T`, the complete decomposition contributions [4]_
    :math:`(\sum_j v_{ji} v_j^T x / \sigma_j)^2` for :math:`L`.

    Read more in the :ref:`User Guide <subspace>`.

    Parameters
    ----------
    n_components : int, default=10
        Number of directions :math:`k`, less than `sketch_size`, and at most the rank
        of the sketch.
    measure : {"leverage", "projection"}, default="leverage"
        :math:`L` finds rows that are extreme along the main directions,
        :math:`T` rows that leave them.
    sketch_size : int, default=100
        Rows of the sketch :math:`l`. With more rows than the training data has
        independent features the sketch is exact.
    tol : float, default=1e-12
        Directions with less than `tol` times the largest :math:`\sigma_j^2` are left
        out.

    Attributes
    ----------
    components_ : ndarray of shape (n_components_, n_features)
        :math:`v_j`.
    singular_values_ : ndarray of shape (n_components_,)
        :math:`\sigma_j`.
    n_components_ : int
        :math:`k`.
    sketch_ : ndarray of shape (l, n_features)
        The sketch :math:`B` of all rows but the last few, which wait in a buffer.
    sketch_error_ : float
        Upper bound of :math:`\|A x\|^2 - \|B x\|^2` over unit vectors (at least 0), at
        most :math:`\|A\|_F^2 / (l + 1)`; 0 where the sketch is exact.
    n_samples_seen_ : int
        Training rows.

    See Also
    --------
    PCAReconstruction : Exact, centred, and with both measures combined.

    Notes
    -----
    ``contamination="auto"`` takes each training row out of the main directions, without
    how its residual varies together with other directions beside them. Where the sketch
    is not exact, `sketch_error_` is added to all of them first, so that none has less
    than the row brought.

    `fit` takes O(n d l) time and O(d l) memory in double precision, which is for more
    features than a covariance matrix has room for; scoring costs O(k d) a row. Both run
    where `X` lives. Rows enter the sketch `l` at a time wherever batches end, so
    `partial_fit` on batches gives the very sketch of `fit` on all rows.

    As in the paper rows are not centred: centre and scale the features first unless the
    origin is a natural one. Where rows are 100,000 times as far from it as they are
    from one another, `tol` leaves out all directions but that to their mean, which a
    warning says.

    References
    ----------
    .. [1] V. Sharan, P. Gopalan and U. Wieder, "Efficient anomaly detection via matrix
       sketching", NeurIPS, 2018, section 2.
    .. [2] E. Liberty, "Simple and deterministic matrix sketching", KDD, 2013.
    .. [3] M. Ghashami et al., "Frequent directions: simple and deterministic matrix
       sketching", SIAM Journal on Computing, 2016, section 3 (the fast variant and
       merging).
    .. [4] C. F. Alcala and S. J. Qin, "Reconstruction-based contribution for process
       monitoring", Automatica, 2009, section 2.3.

    Examples
    --------
    >>> from skad.subspace import MatrixSketch
    >>> X = [[1.0, 1.0], [-1.0, -0.9], [2.0, 2.1], [-2.0, -2.0], [1.0, -1.0]]
    >>> detector = MatrixSketch(1, measure="projection", contamination=0.2).fit(X)
    >>> detector.predict(X)
    array([ 1,  1,  1,  1, -1])
    >>> detector.partial_fit([[3.0, 3.0]]).transform([[1.0, -1.0]]).round(2)
    array([[1.01, 0.99]])
    """

    n_components: int = 10
    _: KW_ONLY
    measure: str = "leverage"
    sketch_size: int = 100
    tol: float = 1e-12

    _map_sums_to_score = True
    _hiding_times = _origin_times = 1e5
    _parameter_constraints = {
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "measure": [StrOptions({"leverage", "projection"})],
        "sketch_size": [Interval(Integral, 2, None, closed="left")],
        "tol": [Interval(Real, 0, 1, closed="left")],
    }

    def merge(self, other) -> Self:
        """Return a detector with a sketch of this one's and another's training rows.

        Parameters
        ----------
        other : MatrixSketch
            Fitted with the same parameters on other rows with the same features.

        Returns
        -------
        merged : MatrixSketch
            Its `sketch_error_` keeps the bound of a sketch of all the rows.
        """
        self._check_mergeable(other)
        merged = deepcopy(self)
        xp = namespace(self.sketch_)
        merged.n_samples_seen_ = self.n_samples_seen_ + other.n_samples_seen_
        others = [like(part, self.sketch_) for part in (other.sketch_, other._buffer_)]
        merged._fold(xp.concat([self.sketch_, others[0]], axis=0))
        merged.sketch_error_ += other.sketch_error_
        merged._insert(others[1])
        merged._find_components()
        merged._merge_sample(other)
        return merged

    def _check_parameters(self, X):
        if self.n_components >= self.sketch_size:
            raise ValueError(
                f"n_components={self.n_components} must be less than "
                f"sketch_size={self.sketch_size}."
            )
        if self.measure == "projection" and self.n_components >= X.shape[1]:
            raise ValueError(
                f"n_components={self.n_components} must be less than "
                f"n_features={X.shape[1]} for measure='projection'."
            )

    def _fit(self, X, y):
        self._sketch(X)
        self._find_components()

    def _fit_blocks(self, blocks):
        # one block after the other where it lies: a union of sketches is coarser
        found = blocks.fold(_sketch_on, {})
        self._replace_fitted_state({**self._fitted_state(), **found})
        self._find_components()

    def _sketch(self, X):
        if not hasattr(self, "n_samples_seen_"):
            self.n_samples_seen_, self.sketch_error_ = 0, 0.0
            self.sketch_ = self._buffer_ = to_double(X[:0]) + 0.0  # no view of X
        # what was learned from arrays may go on with tensors
        self.sketch_, self._buffer_ = (
            like(part, to_double(X[:0])) for part in (self.sketch_, self._buffer_)
        )
        self.n_samples_seen_ += X.shape[0]
        for rows in self._steps(blocks(*X.shape), "sketch", n_blocks(*X.shape)):
            self._insert(X[rows])

    def _insert(self, X):
        """Append rows to the buffer; fold it into the sketch whenever it is full."""
        xp = namespace(X)
        start = 0
        for stop in range(
            self.sketch_size - len(self._buffer_), X.shape[0] + 1, self.sketch_size
        ):
            rows = to_double(X[start:stop])
            self._fold(xp.concat([self.sketch_, self._buffer_, rows], axis=0))
            self._buffer_ = self._buffer_[:0]
            start = stop
        rest = to_double(X[start:])
        self._buffer_ = xp.concat([self._buffer_, rest], axis=0)

    def _fold(self, rows):
        self.sketch_, loss = shrink(rows, self.sketch_size)
        self.sketch_error_ += loss

    def _find_components(self):
        xp = namespace(self.sketch_)
        rows = xp.concat([self.sketch_, self._buffer_], axis=0)
        _, values, vectors = xp.linalg.svd(rows, full_matrices=False)
        rank = int(xp.sum(values**2 > self.tol * values[0] ** 2))
        k = self.n_components_ = min(self.n_components, rank)
        self.components_, self.singular_values_ = vectors[:k], values[:k]

    def _left_out(self, X):
        """Return the anomaly (b,) of training rows, each without itself.

        What the sketch lost is put back to every direction, so that none has less than
        the row itself brought.
        """
        xp = namespace(self.sketch_)
        X = like(X, self.sketch_)
        # in this unit squares of squares neither overflow nor vanish
        unit = float(self.singular_values_[0]) if self.n_components_ else 1.0
        along = X @ self.components_.T
        rest = (X - along @ self.components_) / unit
        along = along / unit
        squares = xp.vecdot(rest, rest)
        rows = xp.concat([self.sketch_, self._buffer_], axis=0) / unit
        error = self.sketch_error_ / unit**2
        around = rest @ rows.T
        around = xp.vecdot(around, around) + error * squares
        values = (self.singular_values_ / unit) ** 2
        residual, leverage = left_out(
            along**2, values + error, squares, around, 1, self.tol
        )
        if self.measure == "projection":
            return unit**2 * residual
        before = xp.sum(along**2 / (values + error), axis=1)
        seen = xp.sum(along**2 / values, axis=1)
        return seen * xp.where(
            before > 0, leverage / xp.where(before > 0, before, 1.0), 1
        )

    def _map(self, X):
        components = like(self.components_, X)
        along = X @ components.T  # (b, k)
        if self.measure == "projection":
            return (X - along @ components) ** 2
        return ((along / like(self.singular_values_, X)) @ components) ** 2
