"""Likelihood ratios to a background, which is learned from samples with noise."""

import warnings
from numbers import Real
from typing import Any

import numpy as np

from skad._array import like, to_numpy
from skad._members import inspect_of, maps_of, scores_of
from skad._parameters import with_parameters
from skad._random import generator
from skad._sklearn import HasMethods, Interval, StrOptions
from skad.ensemble._corrected_density import CorrectedDensity

_FEW = 40  # samples, below which the ratio told less than the density on ten tables


def mutated(X, rate, random, lowest=None, highest=None):
    """Return rows (n, d) of which each value is replaced at a rate.

    Parameters
    ----------
    X : ndarray of shape (n, d)
        The rows.
    rate : float
        Probability of a value to be replaced.
    random : RandomState
        Draws which, and by what.
    lowest, highest : ndarray of shape (d,) or float, default=None
        Bounds of the uniform values that replace them; None are values that other rows
        have in the feature.
    """
    n, d = X.shape
    replaced = random.uniform(size=(n, d)) < rate
    if lowest is None:
        others = X[random.randint(n, size=(n, d)), np.arange(d)]
    else:
        others = lowest + (highest - lowest) * random.uniform(size=(n, d))
    return np.where(replaced, others, X).astype(X.dtype)


@with_parameters
class LikelihoodRatio(CorrectedDensity):
    r"""Samples whose likelihood is low beside that under a model of the background.

    What all samples have in common, such as a dark background, dominates a likelihood,
    and says nothing of what they show. A second copy of the density learns from
    training samples in which every value is replaced by a random one with probability
    :math:`\mu`: it knows the background alone. The anomaly is the ratio

    .. math:: a(x) = -\log \frac{p(x)}{p_0(x)},

    of the densities :math:`p` of the samples and :math:`p_0` of the mutated samples
    [1]_. The map is the difference of their maps.

    Read more in the :ref:`User Guide <ensemble>`.

    Parameters
    ----------
    background : detector or None, default=None
        The density that learns the background; None is a copy of `detector`. The paper
        takes the same network with weight decay, as ``VAE(weight_decay=10)`` has it.
    mutation : float, default=0.2
        The probability :math:`\mu`, in [0, 1]. The paper has 0.1 to 0.3, chosen on
        known outliers of another kind.
    replacement : {"uniform", "permuted"}, default="uniform"
        What replaces a value: any between the least and the largest training value, of
        the feature, or of all pixels of pictures, as in the paper; or the value of
        another training sample in the feature or pixel.
    random_state : int, RandomState instance or None, default=None
        Draws the mutations, and every `random_state` of the densities that is None.
        Pass an int for reproducible results.

    Attributes
    ----------
    background_ : detector
        The fitted density of mutated samples.

    See Also
    --------
    InputComplexity : Takes away how many bits a sample needs.
    skad.ood.RelativeMahalanobis : The same idea of Gaussians around a classifier.

    Notes
    -----
    `fit` costs twice what the density's does, and as much again for the threshold of
    ``contamination="auto"``, which copies set that have not learned from the samples
    they score; up to 200 samples five pairs of copies. The copies of a density have the
    same seed, so that without mutations the anomaly is 0. Where a density is a product
    over features, features that mutations do not change cancel out.

    What it gains depends on the density, so compare both. Of `GMM` on eight tables of
    normal rows the mean ROC AUC rose from .930 to .933 and of digits of three classes
    in 8 x 8 pixels from .985 to .997; for a small `VAE` that tells Fashion-MNIST from
    digits anyway (.98) it fell (.59 to .80 by `mutation`). The paper's own densities
    are autoregressive. Of few samples the two densities differ by chance: of `GMM(1)`
    on ten tables the ratio's mean was .46 for 5 training rows, .63 for 20, .85 for 40
    and .92 for 160, the density's own .84, .88, .90 and .92. `fit` warns below 40.
    "permuted" keeps correlations alone and says nothing of values beyond those of the
    features: on these tables it was from .02 to .97.

    References
    ----------
    .. [1] J. Ren et al., "Likelihood ratios for out-of-distribution detection",
       NeurIPS, 2019, equation (3) and section 3.

    Examples
    --------
    >>> import numpy as np
    >>> from skad import GMM, LikelihoodRatio
    >>> X = np.random.default_rng(0).normal(size=(300, 1)) * np.ones(3)
    >>> X += 0.1 * np.random.default_rng(1).normal(size=X.shape)
    >>> detector = LikelihoodRatio(GMM(1), random_state=0).fit(X)
    >>> detector.predict([[1.0, 1.0, 1.0], [1.0, -1.0, 1.0]])
    array([ 1, -1])
    """

    background: Any = None
    mutation: float = 0.2
    replacement: str = "uniform"

    _parameter_constraints = {
        "background": [HasMethods(["fit", "score_samples", "transform"]), None],
        "mutation": [Interval(Real, 0, 1, closed="both")],
        "replacement": [StrOptions({"uniform", "permuted"})],
    }

    @property
    def _map_sums_to_score(self):
        densities = [self._head(), self.background or self._head()]
        return all(getattr(one, "_map_sums_to_score", False) for one in densities)

    def _fit(self, X, y):
        if X.shape[0] < _FEW and not self._only_scores:
            warnings.warn(
                f"LikelihoodRatio learned from {X.shape[0]} samples: with fewer than "
                f"{_FEW} the two densities differ by chance, and the density alone "
                "tells more.",
                stacklevel=2,
            )
        random = generator(self.random_state)
        seed = random.randint(2**31 - 1)
        draws = np.random.RandomState(seed)
        self.detector_ = self._fitted(self._head(), X, draws)
        background, draws = self.background, np.random.RandomState(seed)
        self.background_ = self._fitted(
            self._head() if background is None else background,
            like(self._mutated(to_numpy(X), random), X),
            draws,
            "background",
        )

    def _mutated(self, X, random):
        """Return training rows (n, d) with mutations."""
        if self.replacement == "permuted":
            return mutated(X, self.mutation, random)
        axis = 0 if self.image_shape_ is None else None
        return mutated(X, self.mutation, random, X.min(axis), X.max(axis))

    def _anomaly(self, X):
        X = self._seen(X)
        return scores_of(self.background_, X) - scores_of(self.detector_, X)

    def _map(self, X):
        X = self._seen(X)
        return self._shown(maps_of(self.detector_, X) - maps_of(self.background_, X))

    def _inspect(self, X):
        X = self._seen(X)
        scores, maps = inspect_of(self.detector_, X)
        background, of_background = inspect_of(self.background_, X)
        return background - scores, self._shown(maps - of_background)
