"""NNGuide: the energy, guided by the nearest training features."""

from numbers import Integral, Real

import numpy as np

from skad._array import like, namespace
from skad._parameters import with_parameters
from skad._random import Seed, generator
from skad._sklearn import Interval
from skad.neighbors._search import unit_rows
from skad.neighbors._smallest import coarse_smallest
from skad.ood._base import ClassifierDetector
from skad.ood._energy import energy


def guidance(features, bank, k):
    """Return minus the mean of the `k` smallest products of unit features and bank."""
    xp, unit = namespace(features), unit_rows(features)
    bank = like(bank, features)
    chosen, _ = coarse_smallest(unit, bank.T, k)
    return -xp.mean(xp.vecdot(unit[:, None, :], bank[chosen]), axis=1)


@with_parameters
class NNGuide(ClassifierDetector):
    r"""Inputs of high energy that few sure training rows vouch for.

    With the energies :math:`E` and the features of length one :math:`u = f / |f|`, the
    classifier's confidence :math:`-E(x)` is multiplied by a guidance, the mean over the
    `k` training rows with the largest product [1]_:

    .. math:: a(x) = E(x) \, \frac{1}{k} \sum_{i \in N_k(x)} -E(x_i) \, u(x_i)^T u(x).

    ``score_samples`` is :math:`-a`. The map attributes the anomaly to the input by
    `attribution`.

    Read more in the :ref:`User Guide <ood>`.

    Parameters
    ----------
    layer : str, default="penultimate"
        Where the features are taken: "penultimate", what enters the last linear layer;
        "decision", the values per class; "input"; a module's name of a layer; the name
        of a pipeline's step; "hidden_0" and so on of ``MLPClassifier``. Maps and tokens
        are averaged over place.
    n_neighbors : int, default=10
        Number `k` of training rows.
    bank_ratio : float, default=1.0
        Share of the training rows that is kept, drawn at random; the authors keep 0.01
        of ImageNet.
    random_state : int, RandomState instance or None, default=None
        Draws the rows that are kept. Pass an int for reproducible results.

    See Also
    --------
    KNNOOD : The distance to training features alone.
    Energy : Without guidance.

    Notes
    -----
    Scoring costs O(n f) a row beside the classifier, in blocks of bounded memory. A
    training row is among its own neighbours, as in the authors' code.

    References
    ----------
    .. [1] J. Park, Y. G. Jung, A. B. J. Teoh, "Nearest neighbor guidance for
       out-of-distribution detection", ICCV, 2023, equations (5) to (7).

    Examples
    --------
    >>> import numpy as np
    >>> from skad.ood import NNGuide
    >>> rng = np.random.default_rng(0)
    >>> X = np.concatenate([rng.normal(-3, 1, (50, 2)), rng.normal(3, 1, (50, 2))])
    >>> y = np.repeat(["left", "right"], 50)
    >>> detector = NNGuide().fit(X, y)
    >>> detector.predict([[-3.0, -3.0], [3.0, 3.0], [4.0, -4.0]])
    array([ 1,  1, -1])
    """

    _needs = ("features", "logits")
    _parameter_constraints = {
        "layer": [str],
        "n_neighbors": [Interval(Integral, 1, None, closed="left")],
        "bank_ratio": [Interval(Real, 0, 1, closed="right")],
        "random_state": ["random_state"],
    }

    layer: str = "penultimate"
    n_neighbors: int = 10
    bank_ratio: float = 1.0
    random_state: Seed = None

    def _check_parameters(self, X):
        kept = round(self.bank_ratio * X.shape[0])
        if self._in_proportion(self.n_neighbors) > kept:
            raise ValueError(
                f"n_neighbors={self.n_neighbors} is more than the {kept} rows that "
                f"bank_ratio={self.bank_ratio} keeps of {X.shape[0]}."
            )

    def _score_elements(self):
        return 2 * self.n_neighbors * self._bank_.shape[1]

    def _learn_from(self, outputs, codes, known):
        n = outputs.shape[0]
        kept = np.arange(n)
        if self.bank_ratio < 1:
            drawn = generator(self.random_state).permutation(n)
            least = self._in_proportion(self.n_neighbors)
            kept = np.sort(drawn[: max(least, round(self.bank_ratio * n))])
        rows = outputs[kept]
        # minus the confident directions, so that the smallest products count
        self._bank_ = unit_rows(rows[self.layer]) * energy(rows.logits)[:, None]

    def _score(self, outputs):
        features = outputs[self.layer]
        k = self._in_proportion(self.n_neighbors)
        return energy(outputs.logits) * guidance(features, self._bank_, k)
