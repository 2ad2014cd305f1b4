"""Contingency tables along a tree: rows of categories that do not occur together."""

from numbers import Integral

import numpy as np

from skad._array import to_double, to_numpy
from skad._cross_fitting import folds, rows_of
from skad._frames import columns_without_numbers, texts_of, with_columns
from skad._parameters import KW_ONLY, with_parameters
from skad._sklearn import Interval, validate_data
from skad.base import BaseDetector

# One of so many values of a half may be stray.
_STRAY = 50


def entropies(counts):
    """Return x log x - (x - 1) log(x - 1) of counts from 1 up; 0 for 1."""
    x = np.asarray(counts, dtype=np.float64)
    less = np.maximum(x - 1, 1)
    return np.where(x > 1, x * np.log(x / less) + np.log(less), 0.0)


def mutual_information(table):
    """Return the mutual information of a table of counts, cells with their sums.

    Parameters
    ----------
    table : tuple of ndarray of shape (m,)
        Counts of cells, and those of the row and of the column of each cell.
    """
    cells, rows, columns = (np.asarray(part, dtype=np.float64) for part in table)
    n = cells.sum()
    return float((cells / n * np.log(cells * n / (rows * columns))).sum())


def widest_tree(weights):
    """Return parents (d,) in the spanning tree of the largest sum, -1 at its root.

    The root is the node with the largest sum of `weights` (d, d). A node comes after
    its parent in the order that is also returned.
    """
    d = len(weights)
    root = int(np.argmax(weights.sum(axis=1)))
    parents, order = np.full(d, root), [root]
    parents[root] = -1
    best = weights[root].copy()
    best[root] = -np.inf
    while len(order) < d:
        node = int(np.argmax(best))
        order.append(node)
        nearer = (weights[node] > best) & (best > -np.inf)
        parents[nearer] = node
        best[nearer] = weights[node][nearer]
        best[node] = -np.inf
    return parents, order


def n_stray(values):
    """Return how many of the largest of ascending `values` (n,) are stray.

    They lie farther from all others than these from one another, and are one of fifty
    at most.
    """
    most = max(1, len(values) // _STRAY)
    apart = np.diff(values)[-most:] > (values[:-1] - values[0])[-most:]
    return most - int(apart.argmax()) if apart.any() else 0


def cut_points(values, n_bins):
    """Return edges (m + 1,) of bins with about equally many of the `values` (n,).

    Inner edges lie between values, so that rounding moves none; the first and the last
    are the least and the largest value that is not stray: not farther from the others
    in its half than these from the median.
    """
    values = np.sort(values)
    places = np.arange(1, n_bins) * len(values) // n_bins
    places = places[places > 0]
    inner = values[places - 1] + (values[places] - values[places - 1]) / 2
    upper, lower = values[len(values) // 2 :], values[: (len(values) + 1) // 2]
    least = values[n_stray(-lower[::-1])]
    most = values[len(values) - 1 - n_stray(upper)]
    return np.concatenate([[least], np.unique(inner), [most]])


def places(texts, categories):
    """Return the places (n,) of texts in a sorted list, -1 where they are not in it."""
    categories = np.array(categories, dtype=object)
    found = np.minimum(np.searchsorted(categories, texts), len(categories) - 1)
    return np.where(categories[found] == texts, found, -1)


@with_parameters(kw_only=False)
class ContingencyTables(BaseDetector):
    r"""Rows whose categories hardly occur, or hardly occur together.

    Features are categories. A tree joins those that tell most of each other, the
    spanning tree with the largest sum of mutual informations, and given its parent a
    feature is taken as independent of what is farther up. The anomaly is the
    likelihood-ratio statistic of the hypothesis that the row belongs to the others,
    twice what the maximal log-likelihood loses when the row is added. With the counts
    :math:`n_j` and :math:`n_{pj}` of its category, and of its pair with the parent's,
    and M rows, all with the row itself,

    .. math:: a(x) = 2 \bigl(H(M) - H(n_r)\bigr) +
        2 \sum_{j \ne r} \bigl(H(n_p) - H(n_{pj})\bigr), \quad
        H(n) = n \log n - (n - 1) \log (n - 1),

    for the root r, and H(1) = 0. ``score_samples`` is minus that. The map has the terms
    of the sum: a pair that hardly occurs counts to the child.

    Read more in the :ref:`User Guide <density>`.

    Parameters
    ----------
    n_bins : int, default=5
        A feature with a value that is no whole number is cut into so many bins of about
        equally many training rows; at least 2.

    Attributes
    ----------
    parents_ : ndarray of shape (n_features,)
        The parent of each feature in the tree, -1 for the root.
    values_ : list of ndarray
        The categories of each feature, or the edges of its bins; the outer two are the
        least and the largest training value but for stray ones.
    are_bins_ : ndarray of shape (n_features,)
        Whether a feature is cut into bins.
    categories_ : dict of int to list of str
        Of the features that were text, or times, in a frame: their categories in order,
        "" for a missing one. Their `values_` are places in this list.

    See Also
    --------
    skad.marginal.HBOS : Features by themselves.

    Notes
    -----
    Columns of a frame that hold text, categories or times are taken as they come, and
    a missing value as a category. A feature of whole numbers is taken for the codes of
    categories, and their order for nothing: encode an array of strings by
    ``OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1,
    encoded_missing_value=-2)`` in front, and cut counts with many values by
    ``KBinsDiscretizer``. A category that no training row has counts 0, and so
    does a value out of the range of the bins, which does for its children what one in
    the outer bin does. Of the values above or below the median the outer ones, up to a
    fiftieth, are stray if they are farther from the others than these are from the
    median: such a value widens no range.

    `fit` costs O(n d^2 log n), scoring O(d log n) a row. The anomaly does not change
    when categories get other codes or features another order, as long as no two trees
    have the same sum.

    The paper's p-values come from rows that are drawn from the model; here the
    threshold comes from training rows in copies that were fitted without them. The
    paper also takes graphs with more edges than a tree, and scores training rows with
    counts that hold them once, as new rows here are; here a training row that is scored
    again counts twice.

    On categories: fitted to half of the rows of the largest class of KEEL's mushroom,
    kr-vs-k (three against eleven), car (good), flare and lymphography, the ROC AUC of
    other classes is 1.00, 0.99, 0.88, 0.82 and 0.96; counts of single categories have
    0.99, 0.78, 0.84, 0.85 and 0.99, `KNN` on a column for each category 1.00, 0.82,
    0.65, 0.78 and 0.94. Numbers are better looked at as numbers: over ten tables of
    ADBench the mean is 0.83, as that of the mere length of standardised rows.

    References
    ----------
    .. [1] M. Lindskou, P. S. Eriksen and T. Tvedebrink, "Outlier detection in
       contingency tables using decomposable graphical models", Scandinavian Journal of
       Statistics, 2020.
    .. [2] C. Chow and C. Liu, "Approximating discrete probability distributions with
       dependence trees", IEEE Transactions on Information Theory, 1968.

    Examples
    --------
    >>> import pandas as pd
    >>> from skad.density import ContingencyTables
    >>> rows = [["cat", "fur", "milk"], ["hen", "feathers", "eggs"]] * 20
    >>> names = ["animal", "skin", "food"]
    >>> detector = ContingencyTables().fit(pd.DataFrame(rows, columns=names))
    >>> new = [["cat", "fur", "milk"], ["hen", "fur", "eggs"]]
    >>> detector.predict(pd.DataFrame(new, columns=names))
    array([ 1, -1])
    """

    n_bins: int = 5
    _: KW_ONLY

    _map_sums_to_score = True
    _parameter_constraints = {
        "n_bins": [Interval(Integral, 2, None, closed="left")],
    }

    def _validate(self, X, *, reset):
        return super()._validate(self._coded(X, reset=reset), reset=reset)

    def _coded(self, X, *, reset):
        """Return a frame with places in `categories_` in place of text and times."""
        if reset:
            self.categories_ = {
                j: np.unique(texts_of(X, j)).tolist()
                for j in columns_without_numbers(X)
            }
        if not self.categories_ or not hasattr(X, "columns"):
            return X
        # columns go by their place, so that their names have to be right before
        validate_data(self, X, reset=reset, skip_check_array=True)
        return with_columns(
            X,
            {j: places(texts_of(X, j), self.categories_[j]) for j in self.categories_},
        )

    def _row_elements(self):
        return 4 * self.n_features_in_

    def _fit(self, X, y):
        X = to_double(to_numpy(X))
        self._n_, d = X.shape
        self.are_bins_ = (np.floor(X) != X).any(axis=0)
        self.values_ = [
            cut_points(column, self.n_bins) if bins else np.unique(column)
            for column, bins in zip(X.T, self.are_bins_, strict=True)
        ]
        codes = self._codes(X)[0]
        self._counts_ = [
            np.bincount(codes[:, j], minlength=len(self.values_[j])) for j in range(d)
        ]
        weights = np.zeros((d, d))
        for i in self._steps(range(d), "features", d):
            for j in range(i):
                cells, counts = np.unique(
                    self._pairs(codes[:, i], codes[:, j], j), return_counts=True
                )
                first, second = np.divmod(cells, len(self.values_[j]))
                sums = self._counts_[i][first], self._counts_[j][second]
                weights[i, j] = weights[j, i] = mutual_information((counts, *sums))
        self.parents_, _ = widest_tree(weights)
        self._cells_ = [
            np.unique(
                self._pairs(codes[:, max(self.parents_[j], 0)], codes[:, j], j),
                return_counts=True,
            )
            for j in range(d)
        ]

    def _codes(self, X):
        """Return the categories (b, d) of values, -1 where there is none.

        First as parents, where bins have no end, and as they count for themselves.
        """
        codes, own = np.empty((2, *X.shape), dtype=np.int64)
        for j, (values, bins) in enumerate(
            zip(self.values_, self.are_bins_, strict=True)
        ):
            column = X[:, j]
            if bins:
                found = np.searchsorted(values[1:-1], column, side="right")
                known = (column >= values[0]) & (column <= values[-1])
            else:
                found = np.minimum(np.searchsorted(values, column), len(values) - 1)
                known = values[found] == column
            own[:, j] = np.where(known, found, -1)
            codes[:, j] = found if bins else own[:, j]
        return codes, own

    def _pairs(self, first, second, j):
        """Return the cells (b,) of a feature and its parent, -1 where one is unknown.

        `first` and `second` are the categories (b,) of the parent and of feature j.
        """
        cells = first * len(self.values_[j]) + second
        return np.where((first < 0) | (second < 0), -1, cells)

    def _honest_anomaly(self, X, y, anomaly, **params):
        honest = super()._honest_anomaly(X, y, anomaly, **params)
        # counts of copies are smaller, and so are scores: by more than there is between
        # rows where all categories are about as frequent, or between many rows that are
        # equal and the threshold
        rows = np.sort(np.concatenate(folds(X.shape[0])))
        if len(honest) != len(rows):
            return honest
        return np.maximum(honest, to_numpy(self._seen_anomaly(rows_of(X, rows), None)))

    def _map(self, X):
        codes, own_codes = self._codes(to_double(to_numpy(X)))

        def counts(code, j):
            return np.where(code >= 0, self._counts_[j][code], 0)

        maps = np.empty(X.shape)
        for j, parent in enumerate(self.parents_):
            if parent < 0:
                whole, own = self._n_, counts(own_codes[:, j], j)
            else:
                cells, known = self._cells_[j]
                pairs = self._pairs(codes[:, parent], own_codes[:, j], j)
                place = np.minimum(np.searchsorted(cells, pairs), len(cells) - 1)
                own = np.where(cells[place] == pairs, known[place], 0)
                whole = counts(codes[:, parent], parent)
            maps[:, j] = 2 * (entropies(whole + 1) - entropies(own + 1))
        return maps
