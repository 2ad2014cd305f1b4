"""Adversarial dual autoencoders: the error after two reconstructions is the anomaly."""

from numbers import Integral
from typing import Any

import torch
from torch import nn

from skad._parameters import absent, with_parameters
from skad._sklearn import Interval
from skad._training import IncrementalNetworkMixin
from skad.adversarial._game import GameDetector
from skad.nn.adversarial import AdversarialNetwork, frozen
from skad.nn.architecture import build
from skad.nn.network import over_channels

# How steeply the weight of made samples falls with their relative error.
_SHARPNESS = 10


def balance(real, fake):
    """Return the weight of the made samples' error in the discriminator's loss.

    A weight below 1 keeps the loss bounded where both errors grow together.
    """
    real, fake = real.detach(), fake.detach()
    return torch.sigmoid(_SHARPNESS * (real - fake) / real.clamp(min=1e-12))


class ADAENetwork(AdversarialNetwork):
    """Two autoencoders; the second makes samples real or not by rebuilding them."""

    makers = ("generator", "discriminator")

    def __init__(self, shape, latent_size, architecture, hidden_sizes):
        super().__init__()
        sizes = shape, (latent_size,)

        def autoencoder():
            return nn.Sequential(
                build(architecture, *sizes, hidden_sizes),
                build(architecture, *sizes[::-1], hidden_sizes),
            )

        self.generator, self.discriminator = autoencoder(), autoencoder()

    def groups(self, phase):
        """Return the weights of the generator and those of the discriminator."""
        return {
            "discriminator": self.discriminator.parameters(),
            "generator": self.generator.parameters(),
        }

    def updates(self, phase, x, y):
        """Yield the losses of the discriminator and of the generator."""
        made = self.generator(x).detach()
        real = (x - self.discriminator(x)).abs().mean()
        fake = (made - self.discriminator(made)).abs().mean()
        yield "discriminator", real - balance(real, fake) * fake
        made = self.generator(x)
        with frozen(self.discriminator):
            fooled = (made - self.discriminator(made)).abs().mean()
        yield "generator", (x - made).abs().mean() + fooled

    def reconstruct(self, x):
        """Return what both autoencoders make of `x`."""
        return self.discriminator(self.generator(x))

    def anomaly(self, x):
        """Return the Euclidean norm of the error after both autoencoders."""
        return self.map(x).flatten(1).sum(1).sqrt()

    def map(self, x):
        """Return the squared error after both autoencoders."""
        return over_channels((x - self.reconstruct(x)) ** 2)

    def inspect(self, x):
        """Return the norm and the squared errors that are in it."""
        maps = self.map(x)
        return maps.flatten(1).sum(1).sqrt(), maps


@with_parameters
class ADAE(IncrementalNetworkMixin, GameDetector):
    r"""Samples that two opposed autoencoders, one after the other, cannot rebuild.

    The generator :math:`G` and the discriminator :math:`D` are both autoencoders. The
    discriminator is trained to rebuild normal samples and not what the generator makes
    of them, the generator to rebuild normal samples such that the discriminator takes
    them for real ([1]_),

    .. math::
        L_D &= \|x - D(x)\|_1 - \beta\|G(x) - D(G(x))\|_1, \\
        L_G &= \|x - G(x)\|_1 + \|G(x) - D(G(x))\|_1.

    The weight :math:`\beta = \sigma(10 - 10\,\|G(x) - D(G(x))\|_1 / \|x - D(x)\|_1)`
    holds the two in balance; it is 1/2 while the discriminator rebuilds both alike. The
    anomaly is the error after both,

    .. math:: a(x) = \|x - D(G(x))\|_2.

    The map is the squared error of every element, summed over channels; the score is
    the square root of the map's sum.

    Read more in the :ref:`User Guide <adversarial>`.

    Parameters
    ----------
    latent_size : int, default=32
        Length of the codes of both autoencoders. The paper takes 32 for digits and 128
        for larger pictures.

    Attributes
    ----------
    net_ : torch.nn.Module
        The trained network, with its autoencoders `generator` and `discriminator`.
    history_ : list of dict
        Epoch, phase, seconds, "train_loss" (the sum), "discriminator_loss",
        "generator_loss" and, with `patience`, "valid_loss".

    See Also
    --------
    skad.reconstruction.AutoEncoder : One autoencoder, and nothing that opposes it.

    Notes
    -----
    Norms in the losses are means over their elements. Without :math:`\beta` the
    discriminator's loss is not bounded below, and it diverges. The paper balances the
    two learning rates by a sigmoid of how far one network is ahead and does not state
    its formula; Adam's steps hardly depend on the scale of a loss, so that here the
    sigmoid weighs the term that diverges. Features should be on one scale
    (StandardScaler). Training is in float32, scoring in the dtype of `X`.

    References
    ----------
    .. [1] H. S. Vu, D. Ueta, K. Hashimoto, K. Maeno, S. Pranata and S. M. Shen,
       "Anomaly detection with adversarial dual autoencoders", 2019. arXiv:1902.06924.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.adversarial import ADAE
    >>> X = np.random.default_rng(0).normal(size=(200, 1)) * np.ones(6)
    >>> detector = ADAE(latent_size=1, random_state=0).fit(X)
    >>> detector.predict([[1.0] * 6, [1.0] * 5 + [-8.0]])
    array([ 1, -1])
    >>> int(detector.transform([[1.0] * 5 + [-8.0]]).argmax())
    5
    """

    _network_class = ADAENetwork
    _optimizer_options = {"betas": (0.5, 0.999)}
    _parameter_constraints = {
        "latent_size": [Interval(Integral, 1, None, closed="left")],
    }

    latent_size: int = 32
    dropout: Any = absent()  # its discriminator is an autoencoder
