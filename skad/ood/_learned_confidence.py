"""Learned confidence: a classifier that may ask for hints, and pays for them."""

from numbers import Real

import torch
from torch.nn import functional

from skad._parameters import with_parameters
from skad._sklearn import Interval
from skad.nn.attribution import input_gradients
from skad.ood._exposed_classifier import ExposedNetwork
from skad.ood._trained import TrainedClassifier

# Least probability and confidence, and most less one, as the authors do.
_TINY = 1e-12
# The price of hints at first, and by how much it moves in a step.
_PRICE, _RATE = 0.1, 0.01


class LearnedConfidenceNetwork(ExposedNetwork):
    """A classifier with an output more, the logit of its confidence."""

    def __init__(self, shape, n_classes, architecture, hidden_sizes, budget):
        super().__init__(shape, n_classes + 1, architecture, hidden_sizes)
        self.budget = budget
        self.register_buffer("price", torch.tensor(_PRICE))

    def forward(self, x):
        """Return logits (b, c)."""
        return self.judge(x)[:, :-1]

    def judge(self, x):
        """Return the logits of the classes and that of the confidence, (b, c + 1)."""
        return self.classifier(x)

    def inside(self, z, y):
        """Return the cross entropy with hints for half of the rows, and their price."""
        p = torch.softmax(z[:, :-1], 1).gather(1, y[:, None])[:, 0]
        log_confidence = functional.logsigmoid(z[:, -1])
        asked = torch.rand_like(p) < 0.5
        confidence = torch.where(asked, log_confidence.exp(), 1.0)
        hinted = (p * confidence + 1 - confidence).clamp(min=_TINY)
        return -hinted.log() - self.price * log_confidence

    def updates(self, phase, x, y):
        """Yield the loss, and then bring the price nearer to what keeps the budget."""
        z = self.judge(x)
        yield "all", self.inside(z, y).mean()
        spent = -functional.logsigmoid(z[:, -1].detach()).mean()
        up, down = 1 / (1 - _RATE), 1 / (1 + _RATE)
        self.price *= torch.where(spent < self.budget, down, up)

    def watched(self, phase, x, y):
        """Return the cross entropy without hints."""
        return super().inside(self(x), y).mean()

    def unsureness(self, x):
        """Return minus the logarithm of the confidence (b,)."""
        return -functional.logsigmoid(self.judge(x)[:, -1])

    def anomaly(self, x, epsilon=0.0):
        """Return one less the confidence (b,), after a step that raises it."""
        if epsilon:
            x = x - epsilon * input_gradients(self.unsureness, x).sign()
        return torch.sigmoid(-self.judge(x)[:, -1])


@with_parameters
class LearnedConfidence(TrainedClassifier):
    r"""Inputs for which a classifier would ask for a hint, which it has to pay for.

    A network has an output more, its confidence :math:`c(x)` in 0..1. In the training
    it mixes the prediction :math:`p` with the right answer, for a random half of the
    rows, and to ask for hints has a price [1]_:

    .. math:: \min \; E_{(x, y)} \big[-\log\big(c' p_y + 1 - c'\big) - \lambda \log
        c\big], \qquad c' \in \{c, 1\}.

    The price :math:`\lambda` grows by a hundredth in each step in which the mean of
    :math:`-\log c` exceeds a budget, and falls in others. The anomaly is :math:`a(x) =
    1 - c(x)`. The map attributes it to the input by `attribution`.

    Read more in the :ref:`User Guide <ood>`.

    Parameters
    ----------
    budget : float, default=0.3
        What the mean of :math:`-\log c` is kept to: the larger, the more hints.
    epsilon : float, default=0.0
        Length of a step of the input against :math:`-\log c` before it is scored, in
        the units of the input; the authors also take 0.001.
    random_state : int, RandomState instance or None, default=None
        Draws weights, batches and the rows that may ask. Pass an int for reproducible
        results.

    See Also
    --------
    GeneralizedODIN : Learns apart how near an input is to the distribution.
    MaxSoftmax : The confidence that is not learned.

    Notes
    -----
    Known outliers are left out, and `patience` watches the cross entropy without hints.
    What is learned is where the classifier errs on its own training rows, so that it
    takes rows on which it errs: where all are soon classified correctly, as on
    scikit-learn's digits (0 to 4 known), hints pay nowhere, and ROC AUC is .57 in the
    mean of three networks, for the largest probability of a plain network .93; as
    pictures, after a short training, it was below chance, .40. Rows of the other half
    see no hint, so that their predictions are learned as usual. The authors cut
    squares out of the pictures and train by gradient descent with momentum
    at a falling rate; here the optimizer is a parameter. Features should be on one
    scale (StandardScaler).

    References
    ----------
    .. [1] T. DeVries and G. W. Taylor, "Learning confidence for out-of-distribution
       detection in neural networks", arXiv:1802.04865, 2018, equations (1) to (4).

    Examples
    --------
    >>> import numpy as np
    >>> from skad.ood import LearnedConfidence
    >>> rng = np.random.default_rng(0)
    >>> X = np.repeat([[-3, 0], [3, 0]], 100, axis=0) + rng.normal(size=(200, 2))
    >>> y = np.repeat(["left", "right"], 100)
    >>> detector = LearnedConfidence(random_state=0).fit(X, y)
    >>> detector.predict_with_rejection([[-3.0, 0.0], [3.0, 0.0], [0.0, 0.0]])
    array(['left', 'right', -1], dtype=object)
    """

    _network_class = LearnedConfidenceNetwork
    _parameter_constraints = {
        "budget": [Interval(Real, 0, None, closed="left")],
        "epsilon": [Interval(Real, 0, None, closed="left")],
    }

    budget: float = 0.3
    epsilon: float = 0.0

    def _score(self, network, x):
        return network.anomaly(x, self.epsilon)
