"""Distance to the nearest training features, all of length one."""

import warnings
from numbers import Integral

import numpy as np

from skad._parameters import with_parameters
from skad._sklearn import Interval, StrOptions
from skad.neighbors._knn import check_n_neighbors
from skad.neighbors._search import NeighborSearch, unit_rows
from skad.ood._base import ClassifierDetector


def kth_distance(search, features, k):
    """Return the distance (b,) to the k-th nearest row that is not the row itself."""
    return search.neighbors(features, k)[0][:, -1]


@with_parameters
class KNNOOD(ClassifierDetector):
    r"""Inputs whose features are far from those of training rows.

    Features are brought to length one, :math:`u(x) = f(x) / |f(x)|`. The anomaly is the
    distance to the `k`-th nearest of the training features,

    .. math:: a(x) = |u(x) - u_{(k)}|

    [1]_. ``score_samples`` is :math:`-a`. The map attributes the anomaly to the input
    by `attribution`.

    Read more in the :ref:`User Guide <ood>`.

    Parameters
    ----------
    classifier : classifier, torch.nn.Module or None, default=None
        Whose inputs are judged: a scikit-learn classifier or a skorch net, which is
        cloned and fitted unless it comes in a ``FrozenEstimator``, or a trained module.
        None takes the input itself for features.
    layer : str, default="penultimate"
        Where the features are taken: "penultimate", what enters the last linear layer;
        "decision", the values per class; "input"; a module's name of a layer; the name
        of a pipeline's step; "hidden_0" and so on of ``MLPClassifier``. Maps and tokens
        are averaged over place.
    n_neighbors : int, default=50
        Number `k`, less than the training rows. The authors take 50 for CIFAR-10, 200
        for CIFAR-100 and 1000 for ImageNet. A class of no more rows
        than `k` is a warning.
    normalize : bool, default=True
        Whether features are brought to length one.
    algorithm : {"auto", "brute", "kd_tree"}, default="auto"
        How neighbours are searched, as in `KNN`; all are exact.

    See Also
    --------
    skad.neighbors.KNN : On rows as they are.
    NNGuide : Weighs the neighbours' confidence in.

    Notes
    -----
    Class labels serve the classifier alone. A training row is not its own neighbour, so
    that training rows and new ones are scored alike. Scoring costs O(n f) a row beside
    the classifier, in blocks of bounded memory. Features of length zero are at distance
    one from all others.

    References
    ----------
    .. [1] Y. Sun et al., "Out-of-distribution detection with deep nearest neighbors",
       ICML, 2022, section 3.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.ood import KNNOOD
    >>> rng = np.random.default_rng(0)
    >>> X = np.concatenate([rng.normal(-3, 1, (50, 2)), rng.normal(3, 1, (50, 2))])
    >>> y = np.repeat(["left", "right"], 50)
    >>> detector = KNNOOD(n_neighbors=5, normalize=False).fit(X, y)
    >>> detector.predict([[-3.0, -3.0], [3.0, 3.0], [4.0, -4.0]])
    array([ 1,  1, -1])
    """

    _needs = ("features",)
    _default_classifier = None
    _parameter_constraints = {
        "layer": [str],
        "n_neighbors": [Interval(Integral, 1, None, closed="left")],
        "normalize": ["boolean"],
        "algorithm": [StrOptions({"auto", "brute", "kd_tree"})],
    }

    layer: str = "penultimate"
    n_neighbors: int = 50
    normalize: bool = True
    algorithm: str = "auto"

    def _check_parameters(self, X):
        check_n_neighbors(self._in_proportion(self.n_neighbors), X)

    def _score_elements(self):
        return 4 * (self.n_neighbors + 9 + self._n_dimensions_)

    def _map_elements(self):
        return 4 * (self.n_neighbors + 9) * self._n_dimensions_

    def _features(self, outputs):
        features = outputs[self.layer]
        return unit_rows(features) if self.normalize else features

    _learns_rows = False  # a row is no neighbour of itself

    def _learn_from(self, outputs, codes, known):
        bank, k = self._features(outputs), self._in_proportion(self.n_neighbors)
        self._n_dimensions_ = bank.shape[1]
        if not self._is_copy:
            self._warn_of_small_classes(codes)
        self._search_ = NeighborSearch(
            bank, "euclidean", 2, self.algorithm, None, None, k + 1
        )

    def _warn_of_small_classes(self, codes):
        """Warn where the k-th nearest of a row is of another class, whatever it is."""
        classes, counts = np.unique(codes, return_counts=True)
        if len(classes) < 2 or counts.min() > self.n_neighbors:
            return
        smallest = self.classes_[classes[counts.argmin()]]
        warnings.warn(
            f"n_neighbors={self.n_neighbors}, and the class {smallest!s} has "
            f"{counts.min()} training rows: the neighbour at which its rows are judged "
            "is of another class. Pass fewer, such as n_neighbors=5.",
            stacklevel=2,
        )

    def _score(self, outputs):
        k = self._in_proportion(self.n_neighbors)
        return kth_distance(self._search_, self._features(outputs), k)
