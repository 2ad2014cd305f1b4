"""Subspace outlier degree: off the plane in which the rows around it lie."""

from numbers import Integral, Real

from skad._array import device_of, like, namespace, to_numpy
from skad._parameters import KW_ONLY, with_parameters
from skad._sklearn import Interval
from skad.neighbors._around import AroundRows


def most_shared(indices, lists, n_references):
    """Return the places (b, l) of neighbours that share most neighbours with a row.

    Parameters
    ----------
    indices : array of shape (b, k)
        The neighbours of rows, nearest first.
    lists : array of shape (b, k, k)
        The neighbours of these.
    n_references : int
        How many, at most k. Of equals the nearer comes first.
    """
    xp = namespace(indices)
    b, k = indices.shape
    known = xp.sort(indices, axis=1)
    # one search for all rows: each has numbers of its own
    step = xp.max(lists) + 1
    shift = xp.arange(b, device=device_of(indices)) * step
    flat = xp.reshape(known + shift[:, None], (-1,))
    asked = xp.reshape(lists + shift[:, None, None], (-1,))
    place = xp.clip(xp.searchsorted(flat, asked), 0, flat.shape[0] - 1)
    shared = xp.reshape(xp.astype(flat[place] == asked, xp.int64), (b, k, k))
    count = xp.sum(shared, axis=2)
    return xp.argsort(-count, axis=1, stable=True)[:, :n_references]


@with_parameters(kw_only=False)
class SOD(AroundRows):
    r"""Rows off the plane, parallel to axes, in which the rows around them lie.

    Of the `k` nearest training rows those `l` are the row's references that share most
    of their own neighbours with it. A feature is relevant where the references hardly
    vary: where their variance is at most :math:`\alpha` times the mean over all
    features. With the mean :math:`\mu` of the references and the relevant features
    :math:`R`, the anomaly is the distance from their plane,

    .. math:: a(x) = \frac{1}{|R|} \sqrt{\sum_{i \in R} (x_i - \mu_i)^2},

    0 without relevant features. ``score_samples`` is :math:`-a`. The map has the parts
    :math:`(x_i - \mu_i)^2 / (|R|^2 a)` of the relevant features and sums to the
    anomaly.

    Read more in the :ref:`User Guide <neighbors>`.

    Parameters
    ----------
    n_neighbors : int, default=20
        Number of neighbours `k`. With fewer training rows it warns and takes all the
        others.
    n_references : int, default=10
        Number of references `l`; all neighbours where it is above `n_neighbors`.
    alpha : float, default=0.8
        The share :math:`\alpha` of the mean variance.

    See Also
    --------
    KNN : The distance in all features.

    Notes
    -----
    `fit` costs O(n^2 d), scoring O(n d + k^2 log k + l d) a row. Features have to be in
    comparable units, as their variances are compared. References are sought among the
    `k` nearest; the paper compares the neighbours of all rows. PyOD's `SOD` divides by
    the root of the number of relevant features.

    References
    ----------
    .. [1] H.-P. Kriegel, P. Kroger, E. Schubert and A. Zimek, "Outlier detection in
       axis-parallel subspaces of high dimensional data", Pacific-Asia Conference on
       Knowledge Discovery and Data Mining, 2009, definitions 1 to 4.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.neighbors import SOD
    >>> X = np.random.default_rng(0).normal(size=(200, 3)) * [1.0, 1.0, 0.01]
    >>> detector = SOD().fit(X)
    >>> detector.predict([[0.0, 0.0, 0.0], [0.0, 0.0, 0.2]])
    array([ 1, -1])
    >>> detector.transform([[0.0, 0.0, 0.2]]).argmax()
    np.int64(2)
    """

    n_neighbors: int = 20
    _: KW_ONLY
    n_references: int = 10
    alpha: float = 0.8

    _map_sums_to_score = True
    _parameter_constraints = {
        "n_references": [Interval(Integral, 1, None, closed="left")],
        "alpha": [Interval(Real, 0, None, closed="neither")],
    }

    def _fit(self, X, y):
        self._fit_search(X)
        xp = namespace(X)
        self._varies_ = to_numpy(xp.max(X, axis=0) > xp.min(X, axis=0))
        self._lists_ = self._of_training(
            X, lambda rows: self._neighbors(rows)[1], "lists"
        )

    def _judge(self, difference, indices):
        xp = namespace(difference)
        lists = like(self._lists_, indices, dtype="keep")[indices]
        n_references = min(self.n_references, self.n_neighbors_)
        places = most_shared(indices, lists, n_references)
        rows = xp.arange(places.shape[0], device=device_of(indices))[:, None]
        references = difference[rows, places]  # (b, l, d), seen from the row
        away = xp.mean(references, axis=1)
        variance = xp.mean((references - away[:, None, :]) ** 2, axis=1)
        varies = like(self._varies_, variance)  # 1 or 0
        limit = self.alpha * xp.sum(variance, axis=1) / max(1, self._varies_.sum())
        relevant = variance <= limit[:, None]
        squares = xp.where(relevant, away**2, 0.0)
        counted = relevant & ((varies > 0) | (away != 0))
        number = xp.sum(xp.astype(counted, squares.dtype), axis=1)
        distance = xp.sqrt(xp.sum(squares, axis=1))
        whole = distance * xp.where(number > 0, number, 1.0)
        parts = squares / xp.where(whole > 0, whole, 1.0)[:, None]
        return distance / xp.where(number > 0, number, 1.0), parts

    def _work(self, X):
        k = self.n_neighbors_
        return 4 * k * (k + X.shape[1])

    def _inspect(self, X):
        return self._judged(X, self._judge, self._work(X))

    def _anomaly(self, X):
        return self._inspect(X)[0]

    def _map(self, X):
        return self._inspect(X)[1]
