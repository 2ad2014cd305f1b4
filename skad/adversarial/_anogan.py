"""AnoGAN: what a generator of normal samples cannot make is anomalous."""

from numbers import Integral, Real

import torch

from skad._parameters import with_parameters
from skad._sklearn import Interval
from skad.adversarial._game import GameDetector
from skad.nn.adversarial import (
    AdversarialNetwork,
    Discriminator,
    discriminator_loss,
    frozen,
    generator_loss,
    judged_together,
)
from skad.nn.architecture import build
from skad.nn.network import over_channels
from skad.nn.search import descend

# Samples that are searched for to set the threshold; more are thinned out.
_THRESHOLD_ROWS = 1024


class AnoGANNetwork(AdversarialNetwork):
    """Generator and discriminator; scores come after a search for the code."""

    def __init__(
        self,
        shape,
        latent_size,
        architecture,
        hidden_sizes,
        discrimination_weight,
        n_search_steps,
        search_lr,
    ):
        super().__init__()
        self.generator = build(architecture, (latent_size,), shape, hidden_sizes)
        self.discriminator = Discriminator(shape, architecture, hidden_sizes)
        self.latent_size, self.weight = latent_size, discrimination_weight
        self.n_search_steps, self.search_lr = n_search_steps, search_lr
        self.register_buffer("start", torch.zeros(latent_size))

    def draw(self, n):
        """Return `n` codes from the uniform prior on the cube (-1, 1)^k."""
        return 2 * torch.rand(n, self.latent_size, device=self.start.device) - 1

    def groups(self, phase):
        return {
            "discriminator": self.discriminator.parameters(),
            "generator": self.generator.parameters(),
        }

    def updates(self, phase, x, y):
        with torch.no_grad():
            made = self.generator(self.draw(len(x)))
        logits = judged_together(self.discriminator, (x,), (made,))
        yield "discriminator", discriminator_loss(*logits)
        with frozen(self.discriminator):
            fake = self.discriminator(self.generator(self.draw(len(x))))[0]
        yield "generator", generator_loss(fake)

    def finish(self, batches, held=None):
        self.start = self.draw(1)[0]

    def search_loss(self, x, features, code):
        """Return how far each generated sample is, of shape (b,)."""
        made = self.generator(code)
        residual = (x - made).abs().flatten(1).sum(1)
        discrimination = (features - self.discriminator(made)[1]).abs().sum(1)
        return (1 - self.weight) * residual + self.weight * discrimination

    def search(self, x):
        """Return the code of every sample, by Adam's steps from one start."""
        features = self.discriminator(x)[1].detach()
        return descend(
            lambda code, _: self.search_loss(x, features, code),
            self.start.expand(len(x), -1),
            self.n_search_steps,
            self.search_lr,
        )

    def reconstruct(self, x):
        """Return the nearest samples that a search among codes finds."""
        return self.generator(self.search(x))

    def anomaly(self, x):
        features = self.discriminator(x)[1]
        return self.search_loss(x, features, self.search(x))

    def map(self, x):
        return over_channels((x - self.reconstruct(x)).abs())

    def inspect(self, x):
        code = self.search(x)
        features = self.discriminator(x)[1]
        maps = over_channels((x - self.generator(code)).abs())
        return self.search_loss(x, features, code), maps


@with_parameters
class AnoGAN(GameDetector):
    r"""Samples that a generator of normal ones cannot make.

    A generator :math:`G` and a discriminator :math:`D` are trained against each other
    on normal samples (equation (1) of [1]_). The code :math:`z` of a sample :math:`x`
    is searched for by gradient descent on the loss that is also the anomaly (equations
    (2), (4), (5) and (6)),

    .. math::
        a(x) = (1 - \lambda) \sum_i |x_i - G(z)_i|
               + \lambda \sum_j |f_j(x) - f_j(G(z))|,

    the residual and the distance of the features :math:`f`, the layer below the output
    of the discriminator. The map is the residual :math:`|x - G(z)|` of every element,
    summed over the channels of colour images: with the weight :math:`1 - \lambda` it is
    the first part of the score.

    Read more in the :ref:`User Guide <adversarial>`.

    Parameters
    ----------
    latent_size : int, default=16
        Length of the code :math:`z`.
    discrimination_weight : float, default=0.1
        The weight :math:`\lambda` of the features, in 0..1.
    n_search_steps : int, default=500
        Steps of the search for a code.
    search_lr : float, default=0.05
        Size of its first steps; they shrink to zero as a cosine does.

    See Also
    --------
    FAnoGAN : An encoder takes the place of the search.
    EGBAD : An encoder is trained together with the generator.

    Notes
    -----
    Features should be on one scale (StandardScaler). Training is in float32, scoring in
    the dtype of `X`. A score costs `n_search_steps` passes through both networks and
    back, hundreds of times the cost of other networks' scores, so the threshold
    comes from at most 1,024 samples, evenly spread over those that could set it.

    The paper leaves the optimizer of the search open: it is Adam, from one start for
    all samples that is drawn from the prior in `fit`, so that scores are deterministic
    and do not depend on the batch. The prior is the paper's, uniform on the cube from
    -1 to 1. Discriminators have no batch normalization, and the generator's output is
    linear, so that features of any range can be made.

    Weak on small tables: trained on 250 rows of each of ten it gets a ROC AUC of .80 in
    the mean, where the norm of the standardized row gets .83. On pictures it is about
    as good as the distance to the mean, .88 and .89, for one class of Fashion-MNIST
    against the others (benchmarks/results/networks_pictures.tsv).

    References
    ----------
    .. [1] T. Schlegl, P. Seeböck, S. M. Waldstein, U. Schmidt-Erfurth and G. Langs,
       "Unsupervised anomaly detection with generative adversarial networks to guide
       marker discovery", IPMI, 2017, equations (1) to (6).

    Examples
    --------
    >>> import numpy as np
    >>> from skad.adversarial import AnoGAN
    >>> X = np.random.default_rng(0).normal(size=(200, 1)) * np.ones(6)
    >>> detector = AnoGAN(latent_size=1, n_search_steps=50, random_state=0).fit(X)
    >>> detector.predict([[1.0] * 6, [1.0] * 5 + [-1.0]])
    array([ 1, -1])
    >>> int(detector.transform([[1.0] * 5 + [-2.0]]).argmax())
    5
    """

    _network_class = AnoGANNetwork
    _exports = False  # a search is no forward pass
    _parameter_constraints = {
        "latent_size": [Interval(Integral, 1, None, closed="left")],
        "discrimination_weight": [Interval(Real, 0, 1, closed="both")],
        "n_search_steps": [Interval(Integral, 1, None, closed="left")],
        "search_lr": [Interval(Real, 0, None, closed="neither")],
    }
    _most_threshold_rows = _THRESHOLD_ROWS
    _optimizer_options = {"betas": (0.5, 0.999)}

    latent_size: int = 16
    discrimination_weight: float = 0.1
    n_search_steps: int = 500
    search_lr: float = 0.05
    batch_size: int = 64
