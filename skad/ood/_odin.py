"""ODIN: softmax at high temperature after a small step towards the class."""

from collections.abc import Sequence
from numbers import Real

from skad._array import namespace
from skad._parameters import with_parameters
from skad._sklearn import Interval
from skad.embedding._logits import softmax
from skad.ood._base import ClassifierDetector
from skad.ood._perturbation import EPSILON, best_epsilon, step_against


def loss_gradient(logits, temperature):
    """Return the gradient (b, c) of the predicted class's loss to the logits."""
    xp = namespace(logits)
    predicted = xp.argmax(logits, axis=1)
    classes = xp.arange(logits.shape[1], device=getattr(logits, "device", None))
    one_hot = xp.astype(classes[None, :] == predicted[:, None], logits.dtype)
    return (softmax(logits, temperature) - one_hot) / temperature


@with_parameters
class ODIN(ClassifierDetector):
    r"""Inputs that stay unsure when they are moved towards the predicted class.

    The input takes a small step that raises the predicted class, which helps training
    data more than others, and the softmax is taken at a high temperature [1]_:

    .. math:: \tilde x = x - \epsilon \, \mathrm{sign} \nabla_x \big(-\log
        \mathrm{softmax}(z(x) / T)_{\hat y}\big), \qquad
        a(x) = -\max_c \mathrm{softmax}(z(\tilde x) / T)_c.

    ``score_samples`` is :math:`-a`. The map attributes the anomaly to the input by
    `attribution`, with the step held fixed.

    Read more in the :ref:`User Guide <ood>`.

    Parameters
    ----------
    temperature : float, default=1000.0
        Temperature :math:`T`, above 0.
    epsilon : float or tuple of float, default=0.0014
        Length of the step in the units of the input. Of several the best is chosen:
        with known outliers the one that flags most of them while 95 % of the rows in
        the distribution are kept, without any the one with the lowest mean anomaly.

    Attributes
    ----------
    epsilon_ : float
        The step that is used.

    See Also
    --------
    MaxSoftmax : Without the step.
    MahalanobisOOD : Takes the step against its own distance.

    Notes
    -----
    The classifier needs gradients to its input: a module or net, a linear classifier,
    or ``MLPClassifier``, also behind a ``StandardScaler``, in a pipeline. The step is
    in the units of the input; the authors' is in units of each channel's standard
    deviation, so standardise and leave the scaler outside of the classifier for the
    same. An element with no influence is not moved, where the authors' code adds the
    step. Costs two passes and one backwards. Choosing among steps without outliers is
    the way of generalised ODIN [2]_.

    `fit` without `y` needs a fitted classifier. A linear classifier grows surer the
    farther a sample is from its boundary, on either side and without end, so that far
    samples look normal to it; classifiers that level out do not have this fault.

    References
    ----------
    .. [1] S. Liang, Y. Li, R. Srikant, "Enhancing the reliability of
       out-of-distribution image detection in neural networks", ICLR, 2018, equations
       (1) and (2).
    .. [2] Y.-C. Hsu et al., "Generalized ODIN: detecting out-of-distribution image
       without learning from out-of-distribution data", CVPR, 2020, section 3.2.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.ood import ODIN
    >>> rng = np.random.default_rng(0)
    >>> X = np.concatenate([rng.normal(-3, 1, (50, 2)), rng.normal(3, 1, (50, 2))])
    >>> y = np.repeat(["left", "right"], 50)
    >>> detector = ODIN().fit(X, y)
    >>> detector.predict_with_rejection([[-3.0, -3.0], [3.0, 3.0], [3.0, -3.0]])
    array(['left', 'right', -1], dtype=object)
    """

    _needs = ("logits", "gradients")
    _parameter_constraints = {
        "temperature": [Interval(Real, 0, None, closed="neither")],
        "epsilon": EPSILON,
    }

    temperature: float = 1000.0
    epsilon: float | Sequence[float] = 0.0014

    def _passes_again(self):
        return True

    _learns_rows = False  # the best of a few steps

    def _learn_from(self, outputs, codes, known):
        def anomaly_of(epsilon):
            self.epsilon_ = epsilon
            parts = (outputs, known)
            return [p and self._in_blocks(self._anomaly, p) for p in parts]

        self.epsilon_ = best_epsilon(self.epsilon, anomaly_of, known is not None)

    def _score(self, outputs):
        moved = step_against(
            outputs,
            "decision",
            lambda logits: loss_gradient(logits, self.temperature),
            self.epsilon_,
        )
        probabilities = softmax(moved.logits, self.temperature)
        return -namespace(probabilities).max(probabilities, axis=1)
