"""Distance of windows to the nearest of a few mean windows."""

from numbers import Integral

from sklearn.cluster import KMeans

from skad._array import like, namespace, to_numpy
from skad._parameters import with_parameters
from skad._random import Seed, generator
from skad._sklearn import Interval
from skad.series._windowed import WindowLift


def nearest_centre(vectors, centres):
    """Return vectors (b, d) minus the nearest of the centres (k, d)."""
    xp = namespace(vectors)
    # centred, so that far from zero the products do not cancel
    middle = xp.mean(centres, axis=0)
    moved = centres - middle
    squares = xp.sum(moved**2, axis=1)  # (k,)
    closest = xp.argmin(squares - 2 * ((vectors - middle) @ moved.T), axis=1)
    return vectors - centres[closest]


@with_parameters
class KMeansAD(WindowLift):
    r"""Time steps in windows that are far from every common pattern.

    The training windows are clustered around `k` mean windows :math:`\mu_j`. A window
    :math:`w` has as anomaly its distance to the nearest of them,

    .. math:: a_w = \min_j \lVert w - \mu_j \rVert_2,

    and a step that of the windows around it: their mean, unless `align` says another
    way. ``score_samples`` is :math:`-a`. The map is folded from the parts
    :math:`(w_{ti} - \mu_{j,ti})^2 / a_w` of the distances in the same way, but takes
    only the step's own, times `l`; with a window of one step it sums to the score. See
    :class:`WindowDetector`.

    Read more in the :ref:`User Guide <series>`.

    Parameters
    ----------
    n_clusters : int, default=20
        Number of mean windows `k`, at most the number of training windows.
    random_state : int, RandomState instance or None, default=None
        Draws the first centres. Pass an int for reproducible results.
    normalize : {"none", "z", "window"}, default="window"
        "window" brings each window to mean 0 and deviation 1, all channels together,
        so that its shape counts and not its level; "z" does so with each channel.

    Attributes
    ----------
    cluster_centers_ : ndarray of shape (n_clusters, window_size_, n_features_in_)
        The mean windows.

    See Also
    --------
    SubsequenceKNN : Distance to the nearest training windows.

    Notes
    -----
    `fit` costs O(i m k l c) for `m` training windows and `i` iterations of
    scikit-learn's ``KMeans``, which runs on the host; scoring costs O(n k l c) for `n`
    steps, where the input lives. Windows are brought to mean 0 and deviation 1 as in
    the benchmark [3]_; the original has raw windows.

    ``contamination="auto"`` takes stretches of time, of which no step is in a window
    that a copy learns from.

    References
    ----------
    .. [1] T. Yairi, Y. Kato, K. Hori, "Fault detection by mining association rules from
       house-keeping data", i-SAIRAS, 2001.
    .. [2] S. Schmidl, P. Wenig, T. Papenbrock, "Anomaly detection in time series: a
       comprehensive evaluation", PVLDB, 2022 (k-Means, whose windows and mean over
       windows are these).
    .. [3] Q. Liu and J. Paparrizos, "The elephant in the room: towards a reliable
       time-series anomaly detection benchmark", NeurIPS Datasets and Benchmarks, 2024
       (KMeansAD).

    Examples
    --------
    >>> import numpy as np
    >>> from skad.series import KMeansAD
    >>> X = np.sin(np.arange(200) / 3)[:, None]
    >>> X[120:123] = 0
    >>> detector = KMeansAD(window_size=10, random_state=0).fit(X)
    >>> bool(116 <= detector.score_samples(X).argmin() <= 126)
    True
    """

    n_clusters: int = 20
    random_state: Seed = None
    normalize: str = "window"

    _parameter_constraints = {
        "n_clusters": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
    }

    _uses_labels = False

    @property
    def _map_sums_to_score(self):
        return getattr(self, "window_size_", None) == 1

    def _fit_windows(self, series, labels):
        vectors = to_numpy(self._gathered(series, labels)[0])
        if self.n_clusters > len(vectors):
            raise ValueError(
                f"n_clusters={self.n_clusters} must be at most the number of training "
                f"windows, {len(vectors)} of window_size={self.window_size_}."
            )
        # far from zero the products of float32 would cancel
        middle = vectors.mean(axis=0)
        model = KMeans(
            self.n_clusters, n_init=1, random_state=generator(self.random_state)
        ).fit(vectors - middle)
        self.cluster_centers_ = (model.cluster_centers_ + middle).reshape(
            self.n_clusters, self.window_size_, -1
        )

    def _difference(self, windows):
        vectors = self._vectors(windows)
        centres = like(self.cluster_centers_, vectors)
        return nearest_centre(vectors, centres.reshape(len(centres), -1))

    def _window_anomaly(self, windows):
        xp = namespace(windows)
        return xp.sqrt(xp.sum(self._difference(windows) ** 2, axis=1))

    def _window_map(self, windows):
        return self._window_inspect(windows)[1]

    def _window_inspect(self, windows):
        xp = namespace(windows)
        parts = self._difference(windows) ** 2
        distance = xp.sqrt(xp.sum(parts, axis=1))
        share = xp.where(distance > 0, distance, 1.0)[:, None]
        return distance, (parts / share).reshape(windows.shape)
