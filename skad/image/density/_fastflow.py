"""FastFlow: patches that a normalizing flow finds improbable."""

from functools import partial
from numbers import Integral, Real

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from skad._parameters import with_parameters
from skad._sklearn import Interval, StrOptions
from skad.image._trained import TrainedImageDetector, split_maps
from skad.image.density._learned_base import BasedNetwork, BaseParameters
from skad.nn.attention import CBAM
from skad.nn.flow import Coupling, Flow


def convolutions(size, ratio, attention, n_in, n_out):
    """Return the subnetwork of a block: two convolutions of `size` x `size`."""
    hidden = max(1, round(ratio * n_in))
    return nn.Sequential(
        nn.Conv2d(n_in, hidden, size, padding=size // 2),
        nn.ReLU(),
        *([CBAM(hidden)] if attention == "cbam" else []),
        nn.Conv2d(hidden, n_out, size, padding=size // 2),
    )


class FastFlowNetwork(BasedNetwork):
    """A flow for each layer, whose maps are normalised first."""

    def __init__(
        self, shapes, n_steps, hidden_ratio, only_3x3, attention, base, base_period
    ):
        super().__init__(shapes, base, base_period)
        self.norms = nn.ModuleList(nn.LayerNorm(shape) for shape in shapes)
        self.flows = nn.ModuleList()
        for channels, *_ in shapes:
            sizes = [3 if only_3x3 or i % 2 == 0 else 1 for i in range(n_steps)]
            subnetworks = [
                partial(convolutions, size, hidden_ratio, attention) for size in sizes
            ]
            self.flows.append(
                Flow([Coupling(channels, each, clamp=2.0) for each in subnetworks])
            )

    def flowed(self, x):
        """Return what each layer's flow makes of its maps, and the log-determinant."""
        layers = zip(self.norms, self.flows, split_maps(x, self.shapes), strict=True)
        return [flow(norm(maps)) for norm, flow, maps in layers]

    def latent(self, x, i):
        """Return what the flow of layer i makes of samples, maps z (b, c, h, w)."""
        return self.flowed(x)[i][0]

    def transformed(self, x):
        """Return z (b, c, h, w) and the log-determinant (b, h, w) of each layer."""
        return [self.on_base(*one, i) for i, one in enumerate(self.flowed(x))]

    def loss(self, x, y):
        """Return the negative log-likelihood of pictures, summed over layers."""
        return sum(
            (0.5 * z.square().sum((1, 2, 3)) - logdet.sum((1, 2))).mean()
            for z, logdet in self.transformed(x)
        )

    def map(self, x):
        """Return how improbable places are, the mean over layers, on the finest grid.

        One minus the likelihood up to a constant factor and to the power 1 / c.
        """
        size = max((shape[1:] for shape in self.shapes), key=lambda s: s[0] * s[1])
        total = 0.0
        for z, _ in self.transformed(x):
            likelihood = torch.exp(-0.5 * z.square().mean(1, keepdim=True))
            total = total + F.interpolate(likelihood, size, mode="bilinear")[:, 0]
        return 1 - total / len(self.shapes)


@with_parameters
class FastFlow(BaseParameters, TrainedImageDetector):
    r"""Patches whose features are improbable under a normalizing flow.

    For each layer of a frozen backbone, an invertible network :math:`f` of affine
    coupling blocks with convolutions takes the map :math:`x` of features to
    :math:`z = f(x)`, which is to follow the standard normal distribution. Training
    maximises the likelihood

    .. math:: \log p(x) = -\tfrac{1}{2} \lVert z \rVert^2
        + \log \left|\det \frac{\partial z}{\partial x}\right| + \text{const}.

    With :math:`C` channels, the anomaly of place :math:`(i, j)` is

    .. math:: 1 - \exp\Big(-\frac{1}{2 C} \sum_c z_{cij}^2\Big),

    averaged over the layers. The map is that, interpolated to the pixels of the
    picture, and the score is its maximum.

    Read more in the :ref:`User Guide <image>`.

    Parameters
    ----------
    n_steps : int, default=8
        Coupling blocks of a flow; the paper takes 8 for ResNets and 20 for
        transformers.
    hidden_ratio : float, default=1.0
        Channels between the two convolutions of a block, in units of those it takes.
    only_3x3 : bool, default=False
        Whether all blocks have 3 x 3 convolutions, as the paper has for ResNet-18;
        otherwise, for every backbone, every other one has 1 x 1, as it has for larger
        networks.
    attention : {"cbam"} or None, default=None
        Whether blocks weigh channels and places between their convolutions, as
        CAINNFlow has it [2]_.
    layers : tuple of str or None, default=None
        Names of the layers whose maps are transformed; None is the first three of a
        ResNet, and all of the bank of filters.
    random_state : int, RandomState instance or None, default=None
        Draws weights, permutations and batches. Pass an int for reproducible results.
    smoothing : float, default=0.0
        Standard deviation of the Gaussian that smooths maps, in pixels. The paper does
        not smooth.

    Attributes
    ----------
    net_ : torch.nn.Module
        The trained network, with its `flows`.

    See Also
    --------
    CFLOW : A flow on single places, which is told the place.
    PaDiM : One Gaussian for each place.

    Notes
    -----
    A learned base is the closed form of what its authors [3]_ train by turns with the
    flow, the mean and variance of :math:`z`, at a period that is no paper's. The paper
    of the attention does not say where it stands; here it is behind the first
    convolution of each block.

    Maps of a layer are normalised over channels and places with a learned gain, as in
    the paper. The map adds up likelihoods as the authors' figures do, without the
    determinant. The authors' blocks have FrEIA's learned scale of each channel beside
    the permutation; the normalisation before the flow has a gain of its own. Layers are
    compared on the grid of the finest one. Training is in
    float32, scoring in the dtype of `X`.

    References
    ----------
    .. [1] J. Yu, Y. Zheng, X. Wang, W. Li, Y. Wu, R. Zhao and L. Wu, "FastFlow:
       unsupervised anomaly detection and localization via 2D normalizing flows", 2021,
       equations (2) to (5).
    .. [2] R. Yan, F. Zhang, M. Huang, W. Liu, D. Hu, J. Li, Q. Liu, J. Jiang, Q. Guo
       and L. Zheng, "CAINNFlow: convolutional block attention modules and invertible
       neural networks flow for anomaly detection and localization tasks", 2022.
    .. [3] Y. Kim, H. Jang, D. Lee and H.-J. Choi, "AltUB: alternating training method
       to update base distribution of normalizing flow for anomaly detection", 2022.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.image import FastFlow
    >>> rng = np.random.default_rng(0)
    >>> stripes = 0.5 + 0.2 * np.sin(np.arange(32) / 2)
    >>> good = stripes + rng.normal(0, 0.01, size=(20, 32, 32))
    >>> bad = good[:1].copy()
    >>> bad[0, 8:16, 16:24] = 0.9
    >>> detector = FastFlow(max_epochs=20, n_steps=2, batch_size=5, random_state=0)
    >>> detector.fit(good).predict(bad)
    array([-1])
    """

    _network_class = FastFlowNetwork
    _parameter_constraints = {
        "n_steps": [Interval(Integral, 1, None, closed="left")],
        "hidden_ratio": [Interval(Real, 0, None, closed="neither")],
        "only_3x3": ["boolean"],
        "attention": [StrOptions({"cbam"}), None],
    }

    n_steps: int = 8
    hidden_ratio: float = 1.0
    only_3x3: bool = False
    attention: str | None = None
    max_epochs: int = 500
    batch_size: int = 32
    weight_decay: float = 1e-5
    smoothing: float = 0.0
