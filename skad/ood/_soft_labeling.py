"""SoftLabeling: a classifier of labels that leave something to the other classes."""

from numbers import Real
from typing import Any

import numpy as np
import torch

from skad._array import to_numpy
from skad._parameters import with_parameters
from skad._sklearn import Interval, StrOptions
from skad.embedding._classifier import ClassifierView, Outputs
from skad.embedding._classifier_fit import class_codes, fitted_classifier
from skad.ood._exposed_classifier import ExposedNetwork
from skad.ood._trained import TrainedClassifier


def soft_labels(codes, n_classes, smoothing, probabilities=None, incorrect="uniform"):
    """Return what is asked of each class, (n, c).

    Parameters
    ----------
    codes : tensor of int, of shape (n,)
        The classes.
    n_classes : int
        How many there are, at least 2.
    smoothing : float
        Share of the label that is not the class's own.
    probabilities : tensor of shape (n, c) or None, default=None
        A teacher's; None is the uniform distribution.
    incorrect : {"uniform", "teacher", "zero"}, default="uniform"
        How what is left is divided among the other classes.
    """
    own = torch.nn.functional.one_hot(codes, n_classes).double()
    if probabilities is None:
        probabilities = torch.full_like(own, 1 / n_classes)
    soft = (1 - smoothing) * own + smoothing * probabilities.double()
    if incorrect == "teacher":
        return soft
    right = (own * soft).sum(1, keepdim=True)
    left = (1 - right) / (n_classes - 1) if incorrect == "uniform" else 0.0
    return own * right + (1 - own) * left


class SoftLabelingNetwork(ExposedNetwork):
    """A classifier whose labels have, behind the class, what is asked of each."""

    def loss(self, x, y):
        """Return the mean cross entropy of soft labels, y (b, 1 + c)."""
        return -(y[:, 1:] * torch.log_softmax(self(x), 1)).sum(1).mean()


@with_parameters
class SoftLabeling(TrainedClassifier):
    r"""Inputs of which a classifier is unsure whose labels were soft.

    A network with probabilities :math:`p` is trained by labels that ask something of
    all classes, and what they ask of the incorrect ones decides what it will say of
    inputs of no class [1]_:

    .. math:: \min \; E_{(x, y)} \Big[-\sum_c q_c(x, y) \log p_c(x)\Big], \qquad
        q_y = 1 - s + s \, r_y.

    Here :math:`s` is `smoothing` and :math:`r` the probabilities of a `teacher`, or
    :math:`1 / C` for each of the C classes without one. What is left, :math:`1 - q_y`,
    is divided among the others as `incorrect` says: evenly, which without a teacher is
    label smoothing; as the teacher does, :math:`q_c = s \, r_c`, which is distillation;
    or not at all, so that nothing but the class is asked for. The anomaly is
    :math:`a(x) = -\max_c p_c(x)`, and the map attributes it to the input by
    `attribution`.

    Read more in the :ref:`User Guide <ood>`.

    Parameters
    ----------
    smoothing : float, default=0.1
        The share :math:`s`, from 0, a plain classifier, to 1.
    teacher : classifier, torch.nn.Module or None, default=None
        What has probabilities for the same classes: a module that returns logits, such
        as `net_` of an `OutlierExposure`, or a ``FrozenEstimator`` are taken as they
        are; another classifier is fitted to the training rows. None is uniform.
    incorrect : {"auto", "uniform", "teacher", "zero"}, default="auto"
        How the rest is divided among the incorrect classes; "auto" is "teacher" with a
        teacher, else "uniform".
    temperature : float, default=1.0
        What the teacher's logits are divided by.

    See Also
    --------
    OutlierExposure : A teacher that knows outliers.
    MaxSoftmax : The same anomaly of a plain classifier.

    Notes
    -----
    The paper finds that what labels ask of incorrect classes can do harm to what a
    network says of inputs of no class, and good. On scikit-learn's digits (0 to 4
    known) smooth labels do good: the ROC AUC of a plain network is .937, that with them
    .958, and .966 with ``smoothing=0.5``. With ``incorrect="zero"``, without a teacher
    the plain loss times a number, it stays .937. Taught by an `OutlierExposure` (.974),
    with ``smoothing=0.9, temperature=4``, it is .973 with no outlier in its own
    training, with ``temperature=1`` .958; taught by a plain network .956 and .935.

    The paper's beginning was at hand, which names the labels and no formula: that a
    teacher's share of the class is kept with ``incorrect="uniform"`` and "zero", and
    the defaults, are our choice. Known outliers are left out. Features should be on one
    scale (StandardScaler).

    References
    ----------
    .. [1] D. Lee and Y. Cheon, "Soft labeling affects out-of-distribution detection of
       deep neural networks", arXiv:2007.03212, 2020.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.ood import SoftLabeling
    >>> rng = np.random.default_rng(0)
    >>> X = np.repeat([[-3, 0], [3, 0]], 100, axis=0) + rng.normal(size=(200, 2))
    >>> y = np.repeat(["left", "right"], 100)
    >>> detector = SoftLabeling(random_state=0).fit(X, y)
    >>> detector.predict_with_rejection([[-3.0, 0.0], [3.0, 0.0], [0.0, 0.0]])
    array(['left', 'right', -1], dtype=object)
    """

    smoothing: float = 0.1
    teacher: Any = None
    incorrect: str = "auto"
    temperature: float = 1.0

    _network_class = SoftLabelingNetwork
    _parameter_constraints = {
        "smoothing": [Interval(Real, 0, 1, closed="both")],
        "teacher": "no_validation",
        "incorrect": [StrOptions({"auto", "uniform", "teacher", "zero"})],
        "temperature": [Interval(Real, 0, None, closed="neither")],
    }

    def _check_parameters(self, X):
        super()._check_parameters(X)
        if self.teacher is None and self.incorrect == "teacher":
            raise ValueError(
                "incorrect='teacher' needs the probabilities of one: pass teacher=, or "
                "incorrect='uniform'."
            )
        if isinstance(self.teacher, TrainedClassifier):
            raise ValueError(
                f"teacher is a {type(self.teacher).__name__}, a detector: pass the "
                "network of a fitted one, its net_."
            )

    def _training_labels(self, X, y):
        """Return the classes of rows and what is asked of each class, (n, 1 + c)."""
        codes = torch.as_tensor(y)
        given, how = None, self.incorrect
        if self.teacher is not None:
            given = torch.as_tensor(to_numpy(self._taught(X, y)))
            how = "teacher" if how == "auto" else how
        how = "uniform" if how == "auto" else how
        soft = soft_labels(codes, self._n_classes, self.smoothing, given, how)
        return torch.cat([codes[:, None].double(), soft], 1).float()

    def _taught(self, X, y):
        """Return the teacher's probabilities (n, c) of rows for the classes."""
        labels = self.classes_[y]
        teacher, classes = fitted_classifier(self.teacher, X, labels)
        view = ClassifierView(teacher, X, self.image_shape_)
        view.require("probabilities", f"{type(self).__name__} with teacher=")
        key = "decision" if view.has_logits else "probabilities"
        found = to_numpy(Outputs(view.matching(X), X).extracted([key])[key])
        if classes is None:
            classes = view.classes
        _, columns = class_codes(self.classes_, classes, view.n_outputs)
        z = np.asarray(found, np.float64)[:, columns]
        if not view.has_logits:
            z = np.log(np.maximum(z, np.finfo(np.float64).tiny))
        return torch.softmax(torch.from_numpy(z) / self.temperature, 1)

    def _split(self, n, labels, n_before=None):
        return super()._split(n, labels[:, 0].long(), n_before)
