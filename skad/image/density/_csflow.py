"""CS-Flow: pictures that one flow over several scales finds improbable."""

import copy
import math
from numbers import Integral, Real

from skad._parameters import with_parameters
from skad._sklearn import Interval
from skad._training import clipped, from_parameters
from skad.image._trained import OwnScoreDetector, OwnScoreNetwork, split_maps
from skad.nn.joint_flow import joint_flow


class CSFlowNetwork(OwnScoreNetwork):
    """One flow of the maps of all scales."""

    def __init__(self, shapes, n_steps, hidden_size, clamp):
        super().__init__()
        self.shapes = shapes
        self.n_elements = sum(math.prod(shape) for shape in shapes)
        self.flow = joint_flow(
            shapes[0][0], n_steps, hidden_size, clamp, n_maps=len(shapes)
        )

    def transformed(self, x):
        """Return the maps z of all scales and the log-determinant (b,)."""
        return self.flow(split_maps(x, self.shapes))

    def energy(self, z):
        """Return half the squared length (b,) of what maps z of all scales say."""
        return sum(0.5 * maps.square().flatten(1).sum(1) for maps in z)

    def loss(self, x, y):
        """Return the negative log-likelihood of pictures by element, equation (5)."""
        z, logdet = self.transformed(x)
        return (self.energy(z) - logdet).mean() / self.n_elements

    def both(self, x):
        """Return the map (b, h, w) of the finest scale and the anomaly (b,)."""
        z, _ = self.transformed(x)
        return z[0].square().mean(1), self.energy(z) / self.n_elements


@with_parameters
class CSFlow(OwnScoreDetector):
    r"""Pictures that are improbable under one normalizing flow over several scales.

    A frozen backbone describes the picture at several sizes, each half the last one's,
    and one invertible network takes the maps :math:`y^{(1)}, \dots, y^{(S)}` of all
    scales to :math:`z`, which is to follow the standard normal distribution. Its
    coupling blocks scale and shift one half of each map's channels by what convolutions
    make of the other half of all scales, where neighbouring scales tell each other.
    Training minimises, by element,

    .. math:: -\log p(y) = \tfrac12 \lVert z \rVert^2
        - \log \left|\det \frac{\partial z}{\partial y}\right| + \text{const}.

    The anomaly of a picture is the mean of :math:`z^2 / 2` over all elements of all
    scales, and that of a place the mean of :math:`z^2` over the channels of the finest
    scale. The map is that, interpolated to the pixels of the picture.

    Read more in the :ref:`User Guide <image>`.

    Parameters
    ----------
    n_scales : int, default=3
        Sizes :math:`S` at which the picture is looked at.
    n_steps : int, default=4
        Coupling blocks of the flow; the last has convolutions of 5 x 5, the others of
        3 x 3.
    hidden_size : int, default=1024
        Channels between the two convolutions of a block.
    clamp : float, default=3.0
        Bound of the logarithm of what a block scales by.
    layers : tuple of str or None, default=None
        Names of the layers whose maps are joined, at the places of the first; None is
        the third of a ResNet, and all of the bank of filters.
    smoothing : float, default=0.0
        Standard deviation of the Gaussian that smooths maps, in pixels. The paper does
        not smooth.
    random_state : int, RandomState instance or None, default=None
        Draws weights, permutations and batches. Pass an int for reproducible results.

    Attributes
    ----------
    net_ : torch.nn.Module
        The trained network, with its `flow`.

    See Also
    --------
    FastFlow : A flow of its own for each layer.
    CFLOW : A flow on single places, which is told the place.

    Notes
    -----
    The score is a mean over the whole picture, as the authors have it: many small
    deviations count, and a single one of few places is averaged away where pictures are
    large. The flow starts as a permutation of the features, so that untrained it is
    their squared length. Gradients longer than 1 are shortened.

    The authors train thousands of steps at their rate. On 31 cookies at 128 pixels,
    with a ResNet-18 and ``hidden_size=64``, 30 epochs are 60 steps and the ROC AUC is
    .67; with ``lr=1e-3`` it is .89, and the distance to the mean picture has .96.

    The authors' features are those of an EfficientNet-B5 at 768, 384 and 192 pixels,
    which they resize to the nearest pixel; here sizes are halved with antialiasing, and
    any backbone serves. Where they divide by :math:`10^{-4}` more in the optimizer, and
    track the best epoch on the test set, here the optimizer is as ever and the last
    epoch counts. Training is in float32, scoring in the dtype of `X`.

    References
    ----------
    .. [1] M. Rudolph, T. Wehrbein, B. Rosenhahn and B. Wandt, "Fully convolutional
       cross-scale-flows for image-based defect detection", WACV, 2022, section 3.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.image import CSFlow
    >>> rng = np.random.default_rng(0)
    >>> stripes = 0.5 + 0.2 * np.sin(np.arange(32) / 2)
    >>> good = stripes + rng.normal(0, 0.01, size=(20, 32, 32))
    >>> bad = good[:1].copy()
    >>> bad[0, 8:16, 16:24] = 0.9
    >>> detector = CSFlow(
    ...     n_steps=2, hidden_size=16, max_epochs=15, lr=0.003, random_state=0
    ... )
    >>> detector.fit(good).predict(bad)
    array([-1])
    """

    _resnet_layers = ("layer3",)
    _network_class = CSFlowNetwork
    _parameter_constraints = {
        "n_scales": [Interval(Integral, 1, None, closed="left")],
        "n_steps": [Interval(Integral, 1, None, closed="left")],
        "hidden_size": [Interval(Integral, 1, None, closed="left")],
        "clamp": [Interval(Real, 0, None, closed="neither")],
    }

    n_scales: int = 3
    n_steps: int = 4
    hidden_size: int = 1024
    clamp: float = 3.0
    batch_size: int = 16
    max_epochs: int = 240
    lr: float = 2e-4
    weight_decay: float = 1e-5
    smoothing: float = 0.0

    def _layers(self, x):
        height, width = self.embedding_.input_size
        found = []
        for i in range(self.n_scales):
            embedding = copy.copy(self.embedding_)
            embedding.image_size = max(1, height >> i), max(1, width >> i)
            found.append(embedding.embed(x).movedim(-1, 1))
        return found

    def _network(self, shapes):
        return from_parameters(self, CSFlowNetwork, shapes)

    def _own_callbacks(self, phase, n_epochs):
        return clipped(1.0)
