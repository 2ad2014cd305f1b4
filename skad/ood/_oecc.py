"""OECC: outlier exposure that keeps the confidence at the training accuracy."""

from numbers import Integral, Real

import torch

from skad._parameters import with_parameters
from skad._sklearn import Interval
from skad.ood._exposed_classifier import ExposedClassifier, ExposedNetwork


class OECCNetwork(ExposedNetwork):
    """A classifier that is first plain, and then as sure as it was right."""

    phases = ("pretrain", "fit")
    warm_phases = ("fit",)

    def __init__(
        self,
        shape,
        n_classes,
        architecture,
        hidden_sizes,
        confidence_weight,
        outlier_weight,
    ):
        super().__init__(shape, n_classes, architecture, hidden_sizes)
        self.confidence_weight = confidence_weight
        self.outlier_weight = outlier_weight
        self.register_buffer("accuracy", torch.ones(()))

    def begin(self, phase, batches):
        """Take the accuracy on the training data before the second phase."""
        if phase != "fit":
            return
        right, n = 0, 0
        training = self.training
        self.eval()
        with torch.no_grad():
            for x, y in batches():
                known = y >= 0
                right += ((self(x).argmax(1) == y) & known).sum()
                n += known.sum()
        self.train(training)
        self.accuracy.copy_(right / n)

    def updates(self, phase, x, y):
        """Yield the cross entropy, and then all terms."""
        if phase == "fit":
            yield "all", self.loss(x, y)
        else:
            known = y >= 0
            losses = super().inside(self(x), y.clamp(min=0))
            yield "all", (losses * known).sum() / known.sum().clamp(min=1)

    def inside(self, z, y):
        """Return the cross entropy and the distance of confidence from accuracy."""
        confidence = torch.softmax(z, 1).amax(1)
        away = (confidence - self.accuracy) ** 2
        return super().inside(z, y) + self.confidence_weight * away

    def outside(self, z):
        """Return the 1-norm of the probabilities less the uniform ones."""
        return (torch.softmax(z, 1) - 1 / z.shape[1]).abs().sum(1)


@with_parameters
class OECC(ExposedClassifier):
    r"""Inputs of which a classifier is unsure that is as sure as it is right.

    Outlier exposure with confidence control [1]_: a classifier is trained as usual,
    which gets a share :math:`A` of the training samples right. Then it is trained on to
    give known outliers the uniform distribution, and its own samples a confidence of
    that size:

    .. math:: \min \; E_{(x, y)} \big[-\log p_y(x) + \lambda_1 (\max_c p_c(x) -
        A)^2\big] + \lambda_2 \, E_{x'} \sum_c |p_c(x') - 1/C|.

    The anomaly is :math:`a(x) = -\max_c p_c`. The map attributes it to the input by
    `attribution`.

    Read more in the :ref:`User Guide <ood>`.

    Parameters
    ----------
    confidence_weight : float, default=9.0
        Weight :math:`\lambda_1` of the confidence.
    outlier_weight : float, default=12.8
        Weight :math:`\lambda_2` of the known outliers.
    pretrain_epochs : int, default=50
        Epochs of the plain classifier.
    max_epochs : int or "auto", default=15
        Epochs after them.

    See Also
    --------
    OutlierExposure : In one go, by cross entropies.

    Notes
    -----
    Known outliers are marked by -1 in `y_ood` of `fit`, or in its `y` where `y_class`
    are the class labels, or come as `X_outliers`. Without any, the last term is left
    out, with a warning. The authors' weights, .07 and .05, are of sums over batches:
    here they are of means, and multiplied by 128 samples and 256 outliers, the batches
    of the code that theirs goes on from. They type in the accuracy; here it is measured
    after the first epochs, in evaluation mode and on the samples of the training. They
    train pictures by gradient descent with momentum at a falling rate; here the
    optimizer is a parameter. Of scikit-learn's digits, with 0 to 4 as classes, half of
    5 and 6 as known outliers and 7 to 9 as unknown ones, ROC AUC is .964 in the mean of
    three networks, .973 with weights of 0.7 and 1, for `OutlierExposure` .974 and for a
    plain network .934. Features should be on one scale (StandardScaler).

    References
    ----------
    .. [1] A.-A. Papadopoulos, M. R. Rajati, N. Shaikh, J. Wang, "Outlier exposure with
       confidence control for out-of-distribution detection", Neurocomputing, 2021.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.ood import OECC
    >>> rng = np.random.default_rng(0)
    >>> centres = np.repeat([[-3, 0], [3, 0], [0, 6]], 60, axis=0)
    >>> X = centres + rng.normal(size=(180, 2))
    >>> y = np.repeat(["left", "right", "none"], 60)
    >>> y_ood = np.repeat([1, 1, -1], 60)
    >>> detector = OECC(random_state=0).fit(X, y, y_ood=y_ood)
    >>> detector.predict_with_rejection([[-3.0, 0.0], [3.0, 0.0], [0.0, 7.0]])
    array(['left', 'right', -1], dtype=object)
    """

    _network_class = OECCNetwork
    _epoch_parameters = ("max_epochs", "pretrain_epochs")
    _costly = ("pretrain_epochs",)
    _parameter_constraints = {
        "confidence_weight": [Interval(Real, 0, None, closed="left")],
        "outlier_weight": [Interval(Real, 0, None, closed="left")],
        "pretrain_epochs": [Interval(Integral, 1, None, closed="left")],
    }

    confidence_weight: float = 9.0
    outlier_weight: float = 12.8
    pretrain_epochs: int = 50
    max_epochs: int | str = 15

    def _epochs(self, phase):
        return self.pretrain_epochs if phase == "pretrain" else self.max_epochs
