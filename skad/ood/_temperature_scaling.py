"""Maximum softmax probability at the temperature that calibrates it."""

import warnings
from numbers import Real

import numpy as np
from scipy.optimize import minimize_scalar

from skad._array import like, namespace, to_double, to_numpy
from skad._parameters import with_parameters
from skad._random import Seed, generator
from skad._sklearn import Interval
from skad.embedding._classifier import Outputs, chosen_rows
from skad.embedding._classifier_fit import learns_from_labels
from skad.embedding._logits import log_softmax
from skad.ood._base import ClassifierDetector
from skad.ood._honest import SCORED, refitted
from skad.ood._labels import split_labels


def best_temperature(logits, codes):
    """Return the temperature at which the labels are likeliest.

    The mean negative log-likelihood is convex in 1 / T. It has no minimum where every
    label has the largest logit; then the temperature is 1, with a warning.
    """
    rows = np.arange(len(codes))
    if np.all(logits[rows, codes] >= logits.max(axis=1)):
        warnings.warn(
            "All labels are predicted, so no temperature is the best: it stays 1. Fit "
            "on rows that the classifier has not been fitted on, or on more of them.",
            stacklevel=5,
        )
        return 1.0

    def loss(log_temperature):
        return -log_softmax(logits, np.exp(log_temperature))[rows, codes].mean()

    found = minimize_scalar(
        loss, bounds=(-7, 7), method="bounded", options={"xatol": 1e-9}
    )
    return float(np.exp(found.x))


def held_out(labels, fraction, random):
    """Return a mask (n,) of a random `fraction` of each class, but not of all of it."""
    mask = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        own = random.permutation(np.flatnonzero(labels == label))
        mask[own[: min(round(fraction * len(own)), len(own) - 1)]] = True
    return mask


@with_parameters
class TemperatureScaling(ClassifierDetector):
    r"""Inputs for which the largest class probability, once calibrated, is low.

    The temperature is the one at which the labels :math:`y_i` of held-out rows are
    likeliest [1]_, and the anomaly is minus the largest probability at this
    temperature:

    .. math:: T = \arg\min_T -\sum_i \log \mathrm{softmax}(z(x_i) / T)_{y_i}, \qquad
        a(x) = -\max_c \, \mathrm{softmax}(z(x) / T)_c.

    ``score_samples`` is :math:`-a`. The map attributes the anomaly to the input by
    `attribution`.

    Read more in the :ref:`User Guide <ood>`.

    Parameters
    ----------
    validation_fraction : float, default=0.2
        Share of each class that is held out from a classifier which is fitted inside,
        for the temperature. With a fitted classifier all rows serve for it, so they
        should not be those that it was fitted on.
    random_state : int, RandomState instance or None, default=None
        Draws the held-out rows. Pass an int for reproducible results.

    Attributes
    ----------
    temperature_ : float
        The temperature :math:`T`.

    See Also
    --------
    MaxSoftmax : At a given temperature.
    ODIN : At a high temperature, after a step of the input.

    Notes
    -----
    `fit` always needs class labels. Where all labels are predicted, the likelihood
    grows without end as the temperature falls; it is then left at 1, with a warning.
    Of a classifier that has probabilities and no logits the logarithms are scaled,
    which gives the same. The cost of scoring is the classifier's.

    With ``contamination="auto"`` the held-out rows set the threshold where there are
    200 of them or all rows; of fewer the share of new rows that are flagged would vary
    much with the rows that are drawn (its deviation was .03 for 20 rows held out of
    100), so that detectors without a tenth of the rows score these.

    References
    ----------
    .. [1] C. Guo et al., "On calibration of modern neural networks", ICML, 2017,
       section 4.2.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.ood import TemperatureScaling
    >>> rng = np.random.default_rng(0)
    >>> X = np.concatenate([rng.normal(-1, 1, (50, 2)), rng.normal(1, 1, (50, 2))])
    >>> y = np.repeat(["left", "right"], 50)
    >>> detector = TemperatureScaling(false_alarm_rate=0.1, random_state=0).fit(X, y)
    >>> detector.predict_with_rejection([[-3.0, -3.0], [3.0, 3.0], [3.0, -3.0]])
    array(['left', 'right', -1], dtype=object)
    """

    _honesty = "held out"
    _needs = ("probabilities",)
    _parameter_constraints = {
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "random_state": ["random_state"],
    }

    validation_fraction: float = 0.2
    random_state: Seed = None

    def _requires_labels(self):
        return True

    def _view(self, X, labels):
        self._held_ = np.ones(X.shape[0], dtype=bool)
        inside = self.classifier is None or learns_from_labels(self.classifier)
        if isinstance(X, Outputs) or not inside:
            return super()._view(X, labels)
        random = generator(self.random_state)
        self._held_ = held_out(labels, self.validation_fraction, random)
        if not self._held_.any():
            raise ValueError(
                f"validation_fraction={self.validation_fraction} holds out none of "
                f"{X.shape[0]} rows."
            )
        return super()._view(chosen_rows(X, ~self._held_), labels[~self._held_])

    def _honest_anomaly(self, X, y, anomaly, y_class=None, y_ood=None):
        held = np.flatnonzero(self._held_)
        if len(held) < min(SCORED, len(self._held_)):  # too few for a tail
            labels, outlier = split_labels(X.shape[0], y, y_class, y_ood)
            return refitted(self, X, labels, outlier, anomaly)
        # the classifier has not seen these, and the temperature is one number
        return anomaly[like(held, anomaly, dtype="keep")]

    def _learn_from(self, outputs, codes, known):
        held = outputs[self._held_]
        logits = to_double(to_numpy(held.log_probabilities()))
        self.temperature_ = best_temperature(logits, codes[self._held_])

    def _score(self, outputs):
        probabilities = outputs.probabilities(self.temperature_)
        return -namespace(probabilities).max(probabilities, axis=1)
