"""ReAct: the energy after clipping large activations."""

import math
from numbers import Real

import numpy as np

from skad._array import blocks, namespace, to_numpy
from skad._parameters import with_parameters
from skad._sklearn import Interval
from skad.ood._shaping import ShapedEnergy

# Of more activations of a layer every second place counts for the quantile, or third.
_MOST = 10_000_000


def clipped(features, threshold):
    """Return the features (b, f), none above `threshold`."""
    return namespace(features).clip(features, None, threshold)


@with_parameters
class ReAct(ShapedEnergy):
    r"""Inputs of high energy after the large activations were clipped.

    Inputs from elsewhere often excite a few units of the penultimate layer far beyond
    what training data do, which lends confidence to the logits. The features
    :math:`f(x)` are clipped at a threshold :math:`\tau`, a quantile of all units'
    activations on training data [1]_. The result is the energy

    .. math:: a(x) = -\log \sum_c \exp\big((W \min(f(x), \tau) + b)_c\big),

    with the weights :math:`W` and :math:`b` of the last layer. ``score_samples`` is
    :math:`-a`. The map attributes the anomaly to the input by `attribution`.

    Read more in the :ref:`User Guide <ood>`.

    Parameters
    ----------
    quantile : float, default=0.9
        The share of the training activations below the threshold.
    threshold : float or None, default=None
        The threshold itself, in place of the quantile; infinity clips nothing.

    Attributes
    ----------
    threshold_ : float
        The threshold :math:`\tau`.

    See Also
    --------
    Energy : Without clipping.
    ASH : Prunes the small activations instead.
    DICE : Prunes weights.

    Notes
    -----
    By default the classifier needs a last linear layer: that of a module, of
    ``MLPClassifier``, or the whole of a linear classifier, whose features are its
    input. Another `layer` costs a second pass, and its quantile is that of single
    places of maps; the last one only the classifier's.

    References
    ----------
    .. [1] Y. Sun, C. Guo, Y. Li, "ReAct: out-of-distribution detection with rectified
       activations", NeurIPS, 2021, equation (2).

    Examples
    --------
    >>> import numpy as np
    >>> from skad.ood import ReAct
    >>> rng = np.random.default_rng(0)
    >>> X = np.concatenate([rng.normal(-3, 1, (50, 2)), rng.normal(3, 1, (50, 2))])
    >>> y = np.repeat(["left", "right"], 50)
    >>> detector = ReAct().fit(X, y)
    >>> detector.predict_with_rejection([[-3.0, -3.0], [3.0, 3.0], [3.0, -3.0]])
    array(['left', 'right', -1], dtype=object)
    """

    _parameter_constraints = {
        "quantile": [Interval(Real, 0, 1, closed="both")],
        "threshold": [Real, None],
    }

    quantile: float = 0.9
    threshold: float | None = None

    _learns_rows = False  # one quantile of all activations

    def _learn_from(self, outputs, codes, known):
        self.threshold_ = self.threshold
        if self.threshold is None:
            activations = self._activations(outputs)
            self.threshold_ = float(np.quantile(activations, self.quantile))

    def _activations(self, outputs):
        """Return the activations of the layer, of many a part."""
        if self.layer == "penultimate":
            return to_numpy(outputs["penultimate"])
        found = []

        def keep(activations):
            step = math.ceil(activations.shape[1] * outputs.shape[0] / _MOST)
            found.append(to_numpy(activations[:, ::step]))
            return activations

        view = outputs.view
        for rows in blocks(outputs.shape[0], view.row_elements, view.device):
            view.shaped(outputs[rows], self.layer, keep)
        return np.concatenate(found)

    def _shape(self, activations):
        return clipped(activations, self.threshold_)
