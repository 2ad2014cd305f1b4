"""Outlier exposure: a classifier that learns to be unsure of known outliers."""

from numbers import Real

from skad._parameters import with_parameters
from skad._sklearn import Interval, StrOptions
from skad.ood._exposed_classifier import (
    ExposedClassifier,
    ExposedNetwork,
    to_uniform,
)


class OutlierExposureNetwork(ExposedNetwork):
    """A classifier that is unsure of rows without a class."""

    def __init__(
        self, shape, n_classes, architecture, hidden_sizes, outlier_weight, measure
    ):
        super().__init__(shape, n_classes, architecture, hidden_sizes)
        self.outlier_weight, self.measure = outlier_weight, measure

    def outside(self, z):
        """Return the cross entropy of the uniform distribution."""
        return to_uniform(z)

    def anomaly(self, x):
        """Return minus the largest probability, or minus that cross entropy."""
        if self.measure == "max_softmax":
            return super().anomaly(x)
        return -to_uniform(self(x))


@with_parameters
class OutlierExposure(ExposedClassifier):
    r"""Inputs of which a classifier is unsure that was trained to be unsure of others.

    A network with logits :math:`z` is trained to classify, and to give known outliers
    the uniform distribution over the classes [1]_:

    .. math:: \min \; E_{(x, y)} \big[-\log p_y(x)\big] + \lambda \,
        E_{x'} \Big[-\frac{1}{C} \sum_c \log p_c(x')\Big], \qquad
        p = \mathrm{softmax}(z).

    The anomaly is :math:`-\max_c p_c`, or with ``measure="cross_entropy"``
    :math:`\frac{1}{C} \sum_c z_c - \log \sum_c e^{z_c}`, minus the cross entropy of the
    uniform distribution. The map attributes it to the input by `attribution`.

    Read more in the :ref:`User Guide <ood>`.

    Parameters
    ----------
    outlier_weight : float, default=0.5
        Weight :math:`\lambda` of the known outliers.
    measure : {"max_softmax", "cross_entropy"}, default="max_softmax"
        The anomaly.

    See Also
    --------
    MaxSoftmax : The same anomaly of a classifier that knows no outliers.
    GeneralizedODIN : A trained classifier that needs none.

    Notes
    -----
    Known outliers are marked by -1 in `y_ood` of `fit`, or in its `y` where `y_class`
    are the class labels, or come as `X_outliers`. Without any, the loss is that of a
    plain classifier, with a warning. They are drawn with the other samples; in a batch
    the mean over them and the mean over the others are what the loss adds, where the
    authors draw two of them to each sample. The authors train images by gradient
    descent with momentum at a falling rate, here the optimizer is a parameter. Features
    should be on one scale (StandardScaler).

    References
    ----------
    .. [1] D. Hendrycks, M. Mazeika, T. Dietterich, "Deep anomaly detection with outlier
       exposure", ICLR, 2019, sections 3 and 4.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.ood import OutlierExposure
    >>> rng = np.random.default_rng(0)
    >>> centres = np.repeat([[-3, 0], [3, 0], [0, 6]], 60, axis=0)
    >>> X = centres + rng.normal(size=(180, 2))
    >>> y = np.repeat(["left", "right", "none"], 60)
    >>> y_ood = np.repeat([1, 1, -1], 60)
    >>> detector = OutlierExposure(random_state=0).fit(X, y, y_ood=y_ood)
    >>> detector.predict_with_rejection([[-3.0, 0.0], [3.0, 0.0], [0.0, 7.0]])
    array(['left', 'right', -1], dtype=object)
    """

    _network_class = OutlierExposureNetwork
    _parameter_constraints = {
        "outlier_weight": [Interval(Real, 0, None, closed="left")],
        "measure": [StrOptions({"max_softmax", "cross_entropy"})],
    }

    outlier_weight: float = 0.5
    measure: str = "max_softmax"
