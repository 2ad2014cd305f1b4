"""Copula-based outlier detection."""

from skad._array import namespace
from skad._left_out import LeftOutMixin
from skad._parameters import with_parameters
from skad._sklearn import StrOptions
from skad.base import BaseDetector
from skad.marginal._tails import (
    central_sums,
    counts_of_known,
    known_values,
    largest_sum,
    over_known,
    skewed_tail,
    skewness,
    skewness_without,
    sorted_columns,
    tail_probabilities,
)


@with_parameters(kw_only=False)
class COPOD(LeftOutMixin, BaseDetector):
    r"""Rows with rare values: small tail probabilities under the empirical copula.

    With the empirical tail probabilities of the training data
    :math:`L_j(x) = \#\{i : x_{ij} \le x_j\} / n` and
    :math:`R_j(x) = \#\{i : x_{ij} \ge x_j\} / n`, and :math:`S_j` the one of them on
    the side to which feature `j` is skewed (:math:`L_j` for negative skewness,
    :math:`R_j` otherwise), the anomaly is the sum of the map

    .. math:: a(x) = \sum_j o_j(x), \qquad o_j(x) =
        \max\bigl(-\log S_j(x), -\tfrac12 (\log L_j(x) + \log R_j(x))\bigr).

    Read more in the :ref:`User Guide <marginal>`.

    Parameters
    ----------
    aggregation : {"feature", "sample"}, default="feature"
        Where the maximum is taken. "feature" is the formula above, the authors' code.
        "sample" is the paper's: the largest of :math:`-\sum_j \log L_j`,
        :math:`-\sum_j \log R_j` and :math:`-\sum_j \log S_j`, and the map is its terms.
        (The paper on ECOD states this formula too, so that both classes then agree.)

    Attributes
    ----------
    columns_ : ndarray of shape (n_features, n_samples)
        The training columns, each sorted, with infinity for missing values.
    skewness_ : ndarray of shape (n_features,)
        Skewness of the training columns.

    See Also
    --------
    ECOD : Takes the longer tail of each feature whatever its skewness.
    HBOS : Histograms: finds rare values between frequent ones too.

    Notes
    -----
    There is nothing to tune. ``contamination="auto"`` takes each training row out of
    its features' tails. `fit` sorts, O(d n log n), and a row is scored with two
    binary searches a feature, O(d log n). A row's score depends on the training data
    alone, not on the rows scored with it. A value beyond all training values gets the
    tail :math:`1 / (n + 1)`. The scores do not change under a strictly increasing map
    of a feature that leaves the sign of its skewness. Where the training data and `X`
    differ in dtype, values are compared in the narrower one.

    Missing values (NaN) are skipped, in training and later: the score is the sum over
    the features that are there, times the number of all over theirs, and the map is 0
    where a value is missing. A row without any value has the anomaly 0.

    A feature without skewness counts by its right tail, as in the paper; the authors'
    code adds both tails there.

    References
    ----------
    .. [1] Z. Li, Y. Zhao, N. Botta, C. Ionescu and X. Hu, "COPOD: Copula-based outlier
       detection", IEEE International Conference on Data Mining, 2020, algorithm 1.

    Examples
    --------
    >>> from skad.marginal import COPOD
    >>> X = [[0.0, 1.0], [0.1, 1.2], [-0.1, 1.1], [0.2, 0.9], [0.3, 5.0]]
    >>> detector = COPOD(contamination=0.2).fit(X)
    >>> detector.predict(X)
    array([ 1,  1,  1,  1, -1])
    >>> detector.transform([[0.1, 5.0], [0.1, 7.0]]).round(2)
    array([[0.51, 1.61],
           [0.51, 1.79]])
    """

    aggregation: str = "feature"

    _map_sums_to_score = True
    _ignores_units = True
    _reads_missing = True
    _parameter_constraints = {
        "aggregation": [StrOptions({"feature", "sample"})],
    }

    def _row_elements(self):
        return 7 * self.n_features_in_

    def _fit(self, X, y):
        self.columns_ = sorted_columns(X)
        self._known_ = counts_of_known(self.columns_)
        self._sums_ = central_sums(self.columns_, self._known_)
        self.skewness_ = skewness(*self._sums_[-2:], self._n_known())

    # How many values of each feature are known, where not all are.
    _known_ = None

    def _n_known(self):
        return self.columns_.shape[1] if self._known_ is None else self._known_

    def _map(self, X):
        return self._rareness(X, self.skewness_)

    def _left_out(self, X):
        skew = skewness_without(self._sums_, self._n_known(), X)
        return namespace(X).sum(self._rareness(X, skew, own=1), axis=1)

    def _rareness(self, X, skew, own=0):
        """Return the map (b, d); `own=1` without each row, a training row, itself."""
        xp = namespace(X)
        X, absent = known_values(X, self._known_)
        tails = tail_probabilities(self.columns_, X, own, self._known_)
        left, right = (-xp.log(tail) for tail in tails)
        if absent is not None:
            left, right = (xp.where(absent, 0.0, part) for part in (left, right))
        skewed = skewed_tail(left, right, skew)
        if self.aggregation == "feature":
            return over_known(xp.maximum(skewed, (left + right) / 2), absent)
        return over_known(largest_sum(left, right, skewed), absent)
