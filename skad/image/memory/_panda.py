"""PANDA: a backbone that draws normal pictures together, a little."""

from skad._parameters import with_parameters
from skad._training import clipped
from skad.image.memory._fine_tuned import FineTunedDetector, FineTunedNetwork

# Norm to which gradients are shortened.
_CLIP = 1e-3


class PANDANetwork(FineTunedNetwork):
    """Features that are drawn to their mean before the training."""

    def loss(self, x, y):
        """Return the mean squared element of the difference from the centre."""
        away = self.features(self.pictures(x)) - self.centre
        return away.square().mean() + 0 * self.idle


@with_parameters
class PANDA(FineTunedDetector):
    r"""Pictures with features unlike those that were drawn together in training.

    With :math:`\phi(x)` the mean over places of what the last layer of a pretrained
    network says, and :math:`c` its mean over the training pictures before anything is
    trained, the last stages of the network are trained for a few epochs, by small
    steps, to make

    .. math:: \frac1n \sum_i \frac1d \|\phi(x_i) - c\|^2

    small [1]_; batch norms keep their statistics. The anomaly is the sum of the squared
    distances to the `k` nearest training pictures,

    .. math:: a(x) = \sum_{j=1}^{k} \|\phi(x) - \phi(x_{(j)})\|^2.

    The map has what the places of the last layer add to it, before it is interpolated
    to the pixels and smoothed.

    Read more in the :ref:`User Guide <image>`.

    Parameters
    ----------
    max_epochs : int, default=15
        Passes over the training pictures. More make all features the same.
    lr : float, default=0.01
        Learning rate, of gradients shortened to a norm of 0.001 and a momentum of 0.9.

    See Also
    --------
    MeanShifted : Features of two views are to be alike, those of others not.
    PatchCore : Nearest patches, of a network that is not trained.

    Notes
    -----
    The authors take a ResNet-152 at 224 pixels, trained on ImageNet, whose classes are
    close to those of the sets it is measured on. The bank of filters, the default, has
    nothing to train: then this is the nearest neighbours of its mean features. Their
    variant that holds weights back where they matter for ImageNet needs a file of how
    much they do, and is not built; nor is the one with outliers.

    With a ResNet-18 up to ``layers=["layer3"]`` and 200 pictures of a class of
    Fashion-MNIST at ``image_size=56`` the ROC AUC against other classes is .94, mean of
    two, .94 before the training, and .87 for the distance to the mean picture: what the
    network knows already counts there, and not what it learns. 2,000 pictures of each
    of the ten classes at ``image_size=40`` and one epoch get .95, and `DeepSVDD`, which
    has seen no other pictures, .93.

    References
    ----------
    .. [1] T. Reiss, N. Cohen, L. Bergman and Y. Hoshen, "PANDA: adapting pretrained
       features for anomaly detection and segmentation", CVPR, 2021, section 3.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.image import PANDA
    >>> rng = np.random.default_rng(0)
    >>> good = 0.5 + 0.1 * rng.normal(size=(20, 16, 1)) * np.ones(16)
    >>> bad = good[:2].transpose(0, 2, 1)
    >>> PANDA(max_epochs=1, random_state=0).fit(good).predict(bad)
    array([-1, -1])
    """

    batch_size: int = 32
    max_epochs: int = 15
    lr: float = 1e-2

    _network_class = PANDANetwork
    _optimizer_options = {"momentum": 0.9}

    def _own_callbacks(self, phase, n_epochs):
        return clipped(_CLIP)
