"""Adversarially learned one-class classifier: a refiner and a discriminator."""

from numbers import Integral, Real

import torch
from torch import nn

from skad._parameters import with_parameters
from skad._sklearn import Interval, StrOptions
from skad._training import IncrementalNetworkMixin
from skad.adversarial._game import GameDetector
from skad.nn.adversarial import (
    AdversarialNetwork,
    Discriminator,
    discriminator_loss,
    frozen,
    generator_loss,
)
from skad.nn.architecture import build
from skad.nn.network import over_channels


class ALOCCNetwork(AdversarialNetwork):
    """A refiner of noisy samples and a discriminator."""

    makers = ("refiner",)

    def __init__(
        self,
        shape,
        latent_size,
        feature_size,
        noise,
        reconstruction_weight,
        measure,
        architecture,
        hidden_sizes,
    ):
        super().__init__()
        self.refiner = nn.Sequential(
            build(architecture, shape, (latent_size,), hidden_sizes),
            build(architecture, (latent_size,), shape, hidden_sizes),
        )
        self.discriminator = Discriminator(
            shape, architecture, hidden_sizes, n_features=feature_size
        )
        self.noise, self.measure = noise, measure
        self.weight = reconstruction_weight

    def groups(self, phase):
        """Return the weights of the discriminator and those of the refiner."""
        return {
            "discriminator": self.discriminator.parameters(),
            "refiner": self.refiner.parameters(),
        }

    def updates(self, phase, x, y):
        """Yield both sides of equation (2), the refiner's with the error of (3)."""
        noisy = x + self.noise * torch.randn_like(x)
        fake = self.discriminator(self.refiner(noisy).detach())[0]
        real = self.discriminator(x)[0]
        yield "discriminator", discriminator_loss(real, fake)
        refined = self.refiner(noisy)
        with frozen(self.discriminator):
            fooled = generator_loss(self.discriminator(refined)[0])
        error = ((x - refined) ** 2).flatten(1).sum(1).mean()
        yield "refiner", fooled + self.weight * error

    def reconstruct(self, x):
        """Return the refined samples."""
        return self.refiner(x)

    def anomaly(self, x):
        """Return the log-odds against a real sample, or the refiner's error."""
        if self.measure == "reconstruction":
            return super().anomaly(x)
        seen = self.refiner(x) if self.measure == "refined" else x
        return -self.discriminator(seen)[0]

    def map(self, x):
        """Return the squared error of the refined samples."""
        return over_channels((x - self.reconstruct(x)) ** 2)

    def inspect(self, x):
        """Return the anomaly and the errors of samples that are refined once."""
        refined = self.refiner(x)
        maps = over_channels((x - refined) ** 2)
        if self.measure == "reconstruction":
            return maps.flatten(1).sum(1), maps
        seen = refined if self.measure == "refined" else x
        return -self.discriminator(seen)[0], maps


@with_parameters
class ALOCC(IncrementalNetworkMixin, GameDetector):
    r"""Samples that a refiner of noisy ones, trained against a discriminator, changes.

    A refiner :math:`R` removes noise from normal samples,
    :math:`\tilde x = x + \epsilon` with :math:`\epsilon \sim N(0, \sigma^2 I)`, and a
    discriminator :math:`D` learns to tell its work from clean samples [1]_,

    .. math:: \min_R \max_D \; E\log D(x) + E\log(1 - D(R(\tilde x)))
        + \lambda E\|x - R(\tilde x)\|^2,

    equations (2) to (4). A refiner that knows normal samples alone distorts the others.
    The anomaly is what it changes,

    .. math:: a(x) = \|x - R(x)\|^2,

    or, as in the paper, what the discriminator thinks of that,

    .. math:: a(x) = \log\frac{1 - D(R(x))}{D(R(x))},

    which ranks as :math:`-D(R(x))` does and has no ties where that is rounded to 0
    or 1. The map is :math:`(x - R(x))^2` at every element, summed over channels. It
    sums to the score for ``measure="reconstruction"`` and is not part of it otherwise.

    Read more in the :ref:`User Guide <adversarial>`.

    Parameters
    ----------
    latent_size : int, default=32
        Length of the code in the middle of the refiner.
    feature_size : int, default=64
        Units before the discriminator's last layer.
    noise : float, default=0.2
        Standard deviation :math:`\sigma` of the noise in training.
    reconstruction_weight : float, default=0.4
        The weight :math:`\lambda` of the refiner's error.
    measure : {"reconstruction", "refined", "direct"}, default="reconstruction"
        What counts: "reconstruction" is the refiner's error :math:`\|x - R(x)\|^2`,
        which the paper trains and does not score with, "refined" its score, the
        discriminator's opinion of :math:`R(x)`, "direct" that of :math:`x`.

    Attributes
    ----------
    net_ : torch.nn.Module
        The trained network, with its `refiner` and `discriminator`.
    history_ : list of dict
        Epoch, phase, seconds, "train_loss" (the sum), "discriminator_loss",
        "refiner_loss" and, with `patience`, "valid_loss".

    See Also
    --------
    ADAE : The discriminator is an autoencoder, and its error the score.

    Notes
    -----
    The refiner minimises :math:`-\log D(R(\tilde x))`, as in the authors' code, instead
    of :math:`\log(1 - D(R(\tilde x)))`, which has no gradient while the discriminator
    wins. The paper stops when the refiner's error is small enough, at a value that it
    does not state; here `max_epochs` ends the training. The paper's score depends on
    when that is: a discriminator that cannot tell any more says nothing, and one is
    never trained on samples other than the normal ones and their refined copies. What
    lies further out than both can look more real to it than normal samples do. A class
    of Fashion-MNIST against the others got a ROC AUC of .74, .39, .22, .22 and .53 by
    "refined" as epochs went by, and of .83 to .90 by "reconstruction" in the same run,
    so that is the default; by 1,500 pictures in 12 epochs .87 in the mean over the ten
    classes, where the distance to the mean picture gets .89. The discriminator has no
    batch normalization. Features should be on one scale (StandardScaler). Training is
    in float32, scoring in the dtype of `X`.

    References
    ----------
    .. [1] M. Sabokrou, M. Khalooei, M. Fathy and E. Adeli, "Adversarially learned
       one-class classifier for novelty detection", CVPR, 2018. arXiv:1802.09088.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.adversarial import ALOCC
    >>> X = np.random.default_rng(0).normal(size=(200, 1)) * np.ones(6)
    >>> detector = ALOCC(latent_size=1, random_state=0).fit(X)
    >>> detector.predict([[1.0] * 6, [1.0] * 5 + [-8.0]])
    array([ 1, -1])
    >>> int(detector.transform([[1.0] * 5 + [-8.0]]).argmax())
    5
    """

    _network_class = ALOCCNetwork
    _optimizer_options = {"betas": (0.5, 0.999)}
    _parameter_constraints = {
        "latent_size": [Interval(Integral, 1, None, closed="left")],
        "feature_size": [Interval(Integral, 1, None, closed="left")],
        "noise": [Interval(Real, 0, None, closed="left")],
        "reconstruction_weight": [Interval(Real, 0, None, closed="left")],
        "measure": [StrOptions({"reconstruction", "refined", "direct"})],
    }

    latent_size: int = 32
    feature_size: int = 64
    noise: float = 0.2
    reconstruction_weight: float = 0.4
    measure: str = "reconstruction"

    @property
    def _map_sums_to_score(self):
        return self.measure == "reconstruction"
