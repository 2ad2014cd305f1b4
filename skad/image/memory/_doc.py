"""DOC: a backbone that draws one class together, and tells the classes of others."""

from numbers import Real

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from skad._fit_parameters import ReferenceMixin
from skad._labels import reference_classes
from skad._parameters import with_parameters
from skad._sklearn import Interval
from skad.image.memory._fine_tuned import FineTunedDetector, FineTunedNetwork


def compactness(features):
    """Return the mean squared element of features (b, d) less the mean of the others.

    For one alone it is 0.
    """
    n = len(features)
    if n < 2:
        return 0.0 * features.sum()
    away = (features - features.mean(0)) * (n / (n - 1))
    return away.square().mean()


class DOCNetwork(FineTunedNetwork):
    """A backbone, and a layer that tells the classes of reference pictures."""

    # no reference pictures are held out
    unwatched_phases = ("fit",)

    def __init__(
        self,
        shapes,
        encoder,
        norms,
        repeat,
        trained_parts,
        n_neighbors,
        n_classes,
        compactness_weight,
    ):
        given = encoder, norms, repeat, trained_parts
        super().__init__(shapes, *given, n_neighbors)
        self.head = nn.Linear(len(self.centre), n_classes)
        self.compactness_weight = compactness_weight

    def loss(self, x, y):
        """Return the descriptiveness loss and the weighted compactness loss."""
        features = self.features(self.pictures(x))
        others = y < 0
        described = F.cross_entropy(self.head(features[others]), -1 - y[others])
        return described + self.compactness_weight * compactness(features[~others])


@with_parameters
class DOC(ReferenceMixin, FineTunedDetector):
    r"""Pictures far from one class, by features that also tell others apart.

    With :math:`\phi(x)` the mean over places of what the last layer of a pretrained
    network says, of d features, the last stages of the network are trained on two
    streams of pictures [1]_. Those of a reference set, of any other things and with
    classes, have to be told apart by a linear layer, by the cross-entropy
    :math:`\ell_D`; the n of the one class are drawn together, each towards the mean
    :math:`m_{-i}` of the others in its batch. The loss is

    .. math:: \ell_D + \lambda \, \ell_C, \qquad
        \ell_C = \frac{1}{n d} \sum_i \|\phi(x_i) - m_{-i}\|^2.

    Without the first part all features would become the same. The anomaly is the sum of
    the squared distances to the `k` nearest training pictures of the class. The map has
    what the places of the last layer add to it, before it is interpolated to the pixels
    and smoothed.

    Read more in the :ref:`User Guide <image>`.

    Parameters
    ----------
    compactness_weight : float, default=0.1
        Weight :math:`\lambda` of the compactness.
    max_epochs : int, default=15
        Passes over the training pictures of the class; each batch has as many of the
        reference set, drawn with replacement.
    lr : float, default=0.001
        Learning rate, with a momentum of 0.9.

    Attributes
    ----------
    net_ : torch.nn.Module
        The trained network, with its `encoder`, `head` and `bank`.

    See Also
    --------
    PANDA : Draws together alone, and stops early.
    MeanShifted : Features of two views are to be alike, those of others not.

    Notes
    -----
    The reference set comes as `X_outliers` and `y_outliers`, or among the training
    pictures, where labels below 0 are its classes; at least two classes are needed. Its
    pictures are no anomalies that are to be found: they only keep features telling. The
    authors take 50,000 pictures of ImageNet, with VGG-16 and AlexNet, whose last layers
    are trained; here it is the last stages of the backbone, or `trained_parts`, and
    batch norms keep their statistics. Their second classifier, a one-class SVM on the
    features, is not built. The authors take the nearest training
    picture alone, of which training pictures are their own. The bank of filters, the
    default, has nothing to train: then
    this is the nearest neighbours of its mean features.

    With a ResNet-18 up to ``layers=["layer3"]``, 150 pictures of a class of
    Fashion-MNIST at ``image_size=56`` and 150 of five other classes as reference, the
    ROC AUC against the remaining ones is .91 after six epochs, mean of two, .90 before
    the training, and .81 for the distance to the mean picture; with ``lr=0.01`` it is
    .88.

    References
    ----------
    .. [1] P. Perera and V. M. Patel, "Learning deep features for one-class
       classification", IEEE Transactions on Image Processing, 2019, section III.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.image import DOC
    >>> rng = np.random.default_rng(0)
    >>> good = 0.5 + 0.1 * rng.normal(size=(20, 16, 1)) * np.ones(16)
    >>> others = rng.uniform(size=(10, 16, 16))
    >>> detector = DOC(max_epochs=1, random_state=0)
    >>> detector.fit(good, X_outliers=others, y_outliers=np.arange(10) % 2)
    DOC(max_epochs=1, random_state=0)
    >>> detector.predict(good[:2].transpose(0, 2, 1))
    array([-1, -1])
    """

    compactness_weight: float = 0.1
    batch_size: int = 32
    max_epochs: int = 15
    lr: float = 1e-3

    _network_class = DOCNetwork
    _uses_labels = True
    _optimizer_options = {"momentum": 0.9}
    _parameter_constraints = {
        "compactness_weight": [Interval(Real, 0, None, closed="left")],
    }

    def _anomaly_share(self):
        return 0.5

    def _training_labels(self, X, y):
        """Return 0 for pictures of the class, -1, -2, ... for those of others."""
        n = X.shape[0]
        labels = np.zeros(n, int) if y is None else reference_classes(y, n)
        self._n_classes_ = -int(labels.min())
        if self._n_classes_ < 2 or labels.max() < 0:
            raise ValueError(
                f"DOC learns from one class beside a reference set of two classes or "
                f"more, and got {self._n_classes_} of these: fit(X, X_outliers=..., "
                "y_outliers=...), or labels y below 0 for its classes. Without any, "
                "take skad.image.PANDA."
            )
        return torch.as_tensor(labels)

    def _network(self, shapes):
        return super()._network(shapes, n_classes=self._n_classes_)
