"""Classifiers with one loss inside of the distribution and another outside of it."""

import warnings

import torch
from torch.nn import functional

from skad._parameters import with_parameters
from skad.nn.architecture import build
from skad.nn.network import Network
from skad.ood._outliers import OutlierLabelsMixin
from skad.ood._trained import TrainedClassifier


def mean_where(losses, mask):
    """Return the mean of the losses (b,) where `mask` is true, 0 where none is."""
    return (losses * mask).sum() / mask.sum().clamp(min=1)


class ExposedNetwork(Network):
    """A classifier that is trained to know what is outside of its data.

    A method makes up to four choices: `inside`, what a row with a class costs;
    `outside`, what one without costs; `outsiders`, where these come from; and
    `anomaly`. Labels are classes, -1 outside.
    """

    # What the mean loss outside counts beside that inside.
    outlier_weight = 1.0

    def __init__(self, shape, n_outputs, architecture, hidden_sizes):
        super().__init__()
        self.classifier = build(architecture, shape, (n_outputs,), hidden_sizes)

    def forward(self, x):
        """Return logits (b, c)."""
        return self.classifier(x)

    def judge(self, x):
        """Return what the losses look at, of shape (b, ...): the logits, or more."""
        return self(x)

    def inside(self, z, y):
        """Return the losses (b,) of rows with classes `y` (b,)."""
        return functional.cross_entropy(z, y, reduction="none")

    def outside(self, z):
        """Return the losses (b,) of rows without a class; None where they have none."""

    def outsiders(self, x):
        """Return rows without a class made from samples; None takes those given."""

    def loss(self, x, y):
        """Return the mean over each kind of rows, which count as many as they are."""
        z, known = self.judge(x), y >= 0
        loss = mean_where(self.inside(z, y.clamp(min=0)), known)
        made = self.outsiders(x)
        if made is not None:
            outside = self.outside(self.judge(made)).mean()
        else:
            outside = self.outside(z)
            if outside is None:
                return loss
            outside = mean_where(outside, ~known)
        return loss + self.outlier_weight * outside

    def anomaly(self, x):
        """Return minus the largest probability (b,)."""
        return -torch.softmax(self(x), 1).amax(1)


def to_uniform(z):
    """Return the cross entropy (b,) of the uniform distribution, of logits (b, c)."""
    return -torch.log_softmax(z, 1).mean(1)


@with_parameters
class ExposedClassifier(OutlierLabelsMixin, TrainedClassifier):
    """Base of the classifiers that learn from given outliers.

    They are marked by -1 in `y_ood` of `fit`, or in its `y` where `y_class` are the
    class labels, or come as `X_outliers`. Without any, a plain classifier is trained,
    with a warning.
    """

    _uses_outliers = True

    def _fit_classes(self, X, codes):
        warnings.warn(
            "No outlier is marked by y_ood or given as X_outliers: a plain classifier "
            "is trained.",
            stacklevel=6,
        )
        super()._fit_classes(X, codes)
