"""Outlier detection with empirical cumulative distribution functions."""

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
class ECOD(LeftOutMixin, BaseDetector):
    r"""Rows with rare values: far out in the empirical tails of their features.

    Features are taken as independent. With the empirical tail probabilities of the
    training data :math:`L_j(x) = \#\{i : x_{ij} \le x_j\} / n` and
    :math:`R_j(x) = \#\{i : x_{ij} \ge x_j\} / n`, the anomaly is the sum of the map

    .. math:: a(x) = \sum_j o_j(x), \qquad
        o_j(x) = \max(-\log L_j(x), -\log R_j(x)).

    Read more in the :ref:`User Guide <marginal>`.

    Parameters
    ----------
    aggregation : {"feature", "sample"}, default="feature"
        Where the maximum is taken. "feature" takes the longer tail of each feature, as
        above and as the authors' code does. "sample" is the paper's formula: with
        :math:`S_j` the left tail where feature `j` is skewed to the left and the right
        one elsewhere, it takes the largest of :math:`-\sum_j \log L_j`,
        :math:`-\sum_j \log R_j` and :math:`-\sum_j \log S_j`, and the map is its terms.

    Attributes
    ----------
    columns_ : ndarray of shape (n_features, n_samples)
        The training columns, each sorted, with infinity for missing values.
    skewness_ : ndarray of shape (n_features,)
        Skewness of the training columns.

    See Also
    --------
    COPOD : Weighs both tails of a feature, or the one on its skewed side.
    HBOS : Histograms: finds rare values between frequent ones too.

    Notes
    -----
    There is nothing to tune. ``contamination="auto"`` takes each training row out of
    its features' tails. `fit` sorts, O(d n log n), and a row is scored with two
    binary searches a feature, O(d log n). A row's score depends on the training data
    alone, not on the rows scored with it. A value beyond all training values gets the
    tail :math:`1 / (n + 1)`. With ``aggregation="feature"`` the scores do not change
    under any strictly monotone map of a feature. Where the training data and `X` differ
    in dtype, values are compared in the narrower one.

    Missing values (NaN) are skipped, in training and later: the score is the sum over
    the features that are there, times the number of all over theirs, and the map is 0
    where a value is missing. A row without any value has the anomaly 0.

    The maximum over features is the default because it ranks better on labelled data:
    mean ROC AUC 0.81 against 0.80 over ten real sets, each with and without anomalies
    in the training data.

    References
    ----------
    .. [1] Z. Li, Y. Zhao, X. Hu, N. Botta, C. Ionescu and G. H. Chen, "ECOD:
       Unsupervised outlier detection using empirical cumulative distribution
       functions", IEEE Transactions on Knowledge and Data Engineering, 2022,
       algorithm 1.

    Examples
    --------
    >>> from skad.marginal import ECOD
    >>> X = [[0.0, 1.0], [0.1, 1.2], [-0.1, 1.1], [0.2, 0.9], [0.3, 5.0]]
    >>> detector = ECOD(contamination=0.2).fit(X)
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
        skew = None
        if self.aggregation == "sample":
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
        if self.aggregation == "feature":
            return over_known(xp.maximum(left, right), absent)
        sides = left, right, skewed_tail(left, right, skew)
        return over_known(largest_sum(*sides), absent)
