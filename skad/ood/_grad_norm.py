"""GradNorm: how much the last layer would change to be unsure."""

from numbers import Real

from skad._array import namespace
from skad._parameters import with_parameters
from skad._sklearn import Interval
from skad.embedding._logits import softmax
from skad.ood._base import ClassifierDetector


def grad_norm(logits, features, temperature=1.0):
    """Return minus the size of the gradient to the last layer's weights, (b,).

    The gradient of the divergence from the uniform distribution is the outer product of
    (p - 1/c) / T and the features, whose 1-norm is the product of the two 1-norms.
    """
    xp = namespace(logits)
    away = softmax(logits, temperature) - 1 / logits.shape[1]
    sizes = [xp.sum(xp.abs(part), axis=1) for part in (away, features)]
    return -sizes[0] * sizes[1] / temperature


@with_parameters
class GradNorm(ClassifierDetector):
    r"""Inputs for which the gradient towards an unsure prediction is small.

    The divergence of the predicted class probabilities :math:`p(x)` from the uniform
    ones has a gradient to the last layer's weights, which is large for training data
    [1]_. With the features :math:`f(x)` that enter this layer and :math:`C` classes,
    the anomaly is minus its 1-norm,

    .. math:: a(x) = -\frac{1}{T} \sum_c |p_c(x) - 1/C| \, \sum_i |f_i(x)|.

    ``score_samples`` is :math:`-a`. The map attributes the anomaly to the input by
    `attribution`.

    Read more in the :ref:`User Guide <ood>`.

    Parameters
    ----------
    temperature : float, default=1.0
        Temperature `T` of the softmax, above 0.

    See Also
    --------
    Energy : Looks at the logits alone.

    Notes
    -----
    The classifier needs a last linear layer: that of a module, of ``MLPClassifier``, or
    the whole of a linear classifier, whose features are its input. The gradient is a
    product of vectors, so that none is computed: the cost is the classifier's.

    References
    ----------
    .. [1] R. Huang, A. Geng, Y. Li, "On the importance of gradients for detecting
       distributional shifts in the wild", NeurIPS, 2021, equation (6) and section 4.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.ood import GradNorm
    >>> rng = np.random.default_rng(0)
    >>> X = np.concatenate([rng.normal(-3, 1, (50, 2)), rng.normal(3, 1, (50, 2))])
    >>> y = np.repeat(["left", "right"], 50)
    >>> detector = GradNorm().fit(X, y)
    >>> detector.predict_with_rejection([[-3.0, -3.0], [3.0, 3.0], [3.0, -3.0]])
    array(['left', 'right', -1], dtype=object)
    """

    _needs = ("logits", "head")
    _parameter_constraints = {
        "temperature": [Interval(Real, 0, None, closed="neither")],
    }

    temperature: float = 1.0

    def _score(self, outputs):
        return grad_norm(outputs.logits, outputs["penultimate"], self.temperature)
