"""RGI: a search for a code that leaves out what no code makes."""

from numbers import Integral, Real

import torch

from skad._parameters import with_parameters
from skad._sklearn import Interval
from skad.adversarial._anogan import _THRESHOLD_ROWS, AnoGANNetwork
from skad.adversarial._game import GameDetector
from skad.nn.network import over_channels
from skad.nn.search import descend
from skad.nn.statistics import quantile

# Training samples whose errors set where the mask begins.
_MOST_ROWS = 256


class RGINetwork(AnoGANNetwork):
    """Generator and discriminator; the search leaves large errors out."""

    def __init__(
        self,
        shape,
        latent_size,
        architecture,
        hidden_sizes,
        mask_fraction,
        n_search_steps,
        search_lr,
    ):
        super().__init__(
            shape,
            latent_size,
            architecture,
            hidden_sizes,
            0.0,
            n_search_steps,
            search_lr,
        )
        self.mask_fraction = mask_fraction
        self.register_buffer("limit", torch.tensor(torch.inf))

    def finish(self, batches, held=None):
        """Take the start, and the errors of training samples that a mask is to have."""
        super().finish(batches, held)
        self.limit.fill_(torch.inf)
        if not self.mask_fraction:
            return
        whole = torch.cat([x for x, _ in batches()])
        some = torch.linspace(0, len(whole) - 1, min(len(whole), _MOST_ROWS))
        errors = self.map(whole[some.round().long().to(whole.device)])
        self.limit.copy_(quantile(errors.flatten(), 1 - self.mask_fraction))

    def errors(self, x, code):
        """Return the squared errors of elements, or of pixels over their channels."""
        return over_channels((x - self.generator(code)).square())

    def search(self, x):
        """Return the code of every sample whose errors below the limit are smallest.

        At first nothing is masked: the limit falls from the largest error of each
        sample, and is there after half of the steps.
        """
        start = self.start.expand(len(x), -1)
        if not self.limit.isfinite():
            return descend(
                lambda code, _: self.errors(x, code).flatten(1).sum(1),
                start,
                self.n_search_steps,
                self.search_lr,
            )
        largest = self.errors(x, start).flatten(1).amax(1, keepdim=True)
        last = self.limit.clamp(min=torch.finfo(x.dtype).tiny)
        largest = largest.maximum(last)

        def masked(code, done):
            share = min(1.0, 2 * done)
            limit = largest ** (1 - share) * last**share
            return self.errors(x, code).flatten(1).minimum(limit).sum(1)

        return descend(masked, start, self.n_search_steps, self.search_lr)

    def anomaly(self, x):
        return self.map(x).flatten(1).sum(1)

    def map(self, x):
        return self.errors(x, self.search(x))

    def inspect(self, x):
        maps = self.map(x)
        return maps.flatten(1).sum(1), maps


@with_parameters
class RGI(GameDetector):
    r"""Samples parts of which no code of a generator makes.

    A generator :math:`G` of normal samples is trained as `AnoGAN` does. The code of a
    sample is searched for together with a mask :math:`M` of the elements that it need
    not explain [1]_,

    .. math:: \min_{z,\, M \in \{0, 1\}^m} \; \sum_i (1 - M_i) (x_i - G(z)_i)^2
        + \lambda \sum_i M_i = \min_z \sum_i \min\big((x_i - G(z)_i)^2, \lambda\big),

    so that a gross error in few elements does not draw the code away from the others.
    The anomaly is the whole error at that code,

    .. math:: a(x) = \|x - G(z)\|^2,

    and the map has its terms, summed over channels, which share one mask. What the mask
    has is where the map is above :math:`\lambda`.

    Read more in the :ref:`User Guide <adversarial>`.

    Parameters
    ----------
    latent_size : int, default=16
        Length of the code :math:`z`.
    mask_fraction : float, default=0.05
        The price :math:`\lambda` is the squared error above which this share of the
        elements of training samples is when they are searched for without a mask; 0
        masks nothing.
    n_search_steps : int, default=500
        Steps of the search for a code.
    search_lr : float, default=0.05
        Size of its first steps; they shrink to zero as a cosine does.

    Attributes
    ----------
    net_ : torch.nn.Module
        The trained network, with its `generator` and `discriminator`; its `limit` is
        :math:`\lambda`.

    See Also
    --------
    AnoGAN : Absolute errors of all elements, and of a discriminator's features.

    Notes
    -----
    The paper relaxes the mask and moves it along gradients; for a given code the best
    one is known, which is what stands above. At first the limit is the largest error of
    the sample, and falls to :math:`\lambda` over half of the steps, as a search that
    begins far from the sample would mask most of it. Neither the features of a
    perceptual loss nor the second variant, R-RGI, which also trains the generator on
    the sample, is part of it; the paper's generators are StyleGANs.

    On ten small tables, trained on 250 rows of each, the ROC AUC is .83 to .84 in the
    mean with 20 to 150 steps of the search, with a generator that was not trained as
    well, and the norm of the standardized row gets .83. On pictures it is below the
    distance to the mean: each of the ten classes of Fashion-MNIST against the others
    gets .88 in the mean, by 1,500 pictures in 20 epochs of linear layers, and the
    distance .89; a mask made no difference. It is for small defects.

    A score costs `n_search_steps` passes through the generator and back, so the
    threshold comes from at most 1,024 samples, and :math:`\lambda` from 256. Features
    should be on one scale (StandardScaler). Training is in float32, scoring in the
    dtype of `X`.

    References
    ----------
    .. [1] S. Mou, X. Gu, M. Cao, H. Bai, P. Huang, J. Shan and J. Shi, "RGI: robust
       GAN-inversion for mask-free image inpainting and unsupervised pixel-wise anomaly
       detection", ICLR, 2023. arXiv:2302.12464.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.adversarial import RGI
    >>> X = np.random.default_rng(0).normal(size=(200, 1)) * np.ones(6)
    >>> detector = RGI(latent_size=1, n_search_steps=50, random_state=0).fit(X)
    >>> int(detector.transform([[1.0] * 5 + [-4.0]]).argmax())
    5
    """

    _network_class = RGINetwork
    _exports = False  # a search is no forward pass
    _map_sums_to_score = True
    _parameter_constraints = {
        "latent_size": [Interval(Integral, 1, None, closed="left")],
        "mask_fraction": [Interval(Real, 0, 1, closed="left")],
        "n_search_steps": [Interval(Integral, 1, None, closed="left")],
        "search_lr": [Interval(Real, 0, None, closed="neither")],
    }
    _most_threshold_rows = _THRESHOLD_ROWS
    _optimizer_options = {"betas": (0.5, 0.999)}

    latent_size: int = 16
    mask_fraction: float = 0.05
    n_search_steps: int = 500
    search_lr: float = 0.05
    batch_size: int = 64
