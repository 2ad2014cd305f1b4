"""ALAD: a bidirectional GAN with discriminators that close both cycles."""

from numbers import Integral

import torch
from torch.nn import functional

from skad._parameters import with_parameters
from skad._sklearn import Interval, StrOptions
from skad._training import IncrementalNetworkMixin
from skad.adversarial._game import GameDetector
from skad.nn.adversarial import (
    AdversarialNetwork,
    Discriminator,
    SpectralNorm,
    discriminator_loss,
    frozen,
    generator_loss,
    judged_together,
    paired,
    paired_shape,
)
from skad.nn.architecture import build
from skad.nn.network import over_channels


class ALADNetwork(AdversarialNetwork):
    """Generator, encoder and three discriminators."""

    def __init__(
        self, shape, latent_size, architecture, hidden_sizes, measure, spectral_norm
    ):
        super().__init__()
        tamed = SpectralNorm if spectral_norm else lambda module: module
        # the one layer of the authors' networks for rows; its features keep apart what
        # deeper ones mix
        rows = len(shape) == 1 and architecture in ("auto", "mlp")
        own = architecture, () if rows else hidden_sizes
        self.generator = build(architecture, (latent_size,), shape, hidden_sizes)
        self.encoder = tamed(build(architecture, shape, (latent_size,), hidden_sizes))
        self.discriminator_xz = tamed(Discriminator(shape, *own, latent_size, 128))
        self.discriminator_xx = tamed(
            Discriminator(paired_shape(shape), *own, n_features=128)
        )
        self.discriminator_zz = tamed(
            Discriminator((2 * latent_size,), "mlp", (), n_features=32)
        )
        self.latent_size, self.measure = latent_size, measure

    def groups(self, phase):
        return {
            "discriminator_xz": self.discriminator_xz.parameters(),
            "discriminator_xx": self.discriminator_xx.parameters(),
            "discriminator_zz": self.discriminator_zz.parameters(),
            "generator": [*self.generator.parameters(), *self.encoder.parameters()],
        }

    def updates(self, phase, x, y):
        z = torch.randn(len(x), self.latent_size, device=x.device)
        # the generator and the encoder learn last, so these hold for all updates
        code, made = self.encoder(x), self.generator(z)
        rebuilt, recoded = self.generator(code), self.encoder(made)
        pairs = {
            "discriminator_xz": ((x, code), (made, z)),
            "discriminator_xx": ((paired(x, x),), (paired(x, rebuilt),)),
            "discriminator_zz": ((paired(z, z),), (paired(z, recoded),)),
        }
        for name, (real, fake) in pairs.items():
            real, fake = ([part.detach() for part in side] for side in (real, fake))
            logits = judged_together(getattr(self, name), real, fake)
            yield name, discriminator_loss(*logits)
        judges = self.discriminator_xz, self.discriminator_xx, self.discriminator_zz
        with frozen(*judges):
            real, fake = judged_together(judges[0], *pairs["discriminator_xz"])
            loss = generator_loss(torch.cat([fake, -real])) * 2
            for name in ("discriminator_xx", "discriminator_zz"):
                loss = loss + generator_loss(getattr(self, name)(*pairs[name][1])[0])
        yield "generator", loss

    def reconstruct(self, x):
        """Return what the generator makes of the code of `x`."""
        return self.generator(self.encoder(x))

    def anomaly(self, x):
        return self.distance(x, self.reconstruct(x))

    def distance(self, x, rebuilt):
        """Return how far reconstructions are, of shape (b,), as `measure` says."""
        if self.measure == "l1":
            return (x - rebuilt).abs().flatten(1).sum(1)
        if self.measure == "l2":
            return (x - rebuilt).flatten(1).norm(dim=1)
        logit, features = self.discriminator_xx(paired(x, rebuilt))
        if self.measure == "logits":
            return functional.softplus(-logit)
        perfect = self.discriminator_xx(paired(x, x))[1]
        return (perfect - features).abs().sum(1)

    def map(self, x):
        return over_channels((x - self.reconstruct(x)).abs())

    def inspect(self, x):
        rebuilt = self.reconstruct(x)
        return self.distance(x, rebuilt), over_channels((x - rebuilt).abs())


@with_parameters
class ALAD(IncrementalNetworkMixin, GameDetector):
    r"""Samples whose reconstruction a discriminator sees to be another.

    A generator :math:`G` maps codes to samples and an encoder :math:`E` samples to
    codes. Three discriminators are trained against the two (section IV of [1]_):
    :math:`D_{xz}` tells :math:`(x, E(x))` from :math:`(G(z), z)`, :math:`D_{xx}` tells
    :math:`(x, x)` from :math:`(x, G(E(x)))` and :math:`D_{zz}` tells :math:`(z, z)`
    from :math:`(z, E(G(z)))`. The anomaly is the distance of the features
    :math:`f_{xx}`, the layer below the output of :math:`D_{xx}`,

    .. math:: a(x) = \|f_{xx}(x, x) - f_{xx}(x, G(E(x)))\|_1.

    The map is the residual :math:`|x - G(E(x))|` of every element, summed over the
    channels of colour images; with ``measure="l1"`` its sum is the score.

    Read more in the :ref:`User Guide <adversarial>`.

    Parameters
    ----------
    latent_size : int, default=8
        Length of the code.
    measure : {"features", "logits", "l1", "l2"}, default="features"
        The anomaly: the distance of the features, :math:`-\log D_{xx}(x, G(E(x)))`,
        :math:`\|x - G(E(x))\|_1` or :math:`\|x - G(E(x))\|_2`, all in the
        paper.
    spectral_norm : bool, default=True
        Whether the weights of the discriminators and of the encoder are divided by
        their largest singular value [2]_.

    Attributes
    ----------
    net_ : torch.nn.Module
        The trained network, with its `generator`, `encoder`, `discriminator_xz`,
        `discriminator_xx` and `discriminator_zz`.

    See Also
    --------
    EGBAD : The same without the two discriminators of cycles.

    Notes
    -----
    Features should be on one scale (StandardScaler). Training is in float32, scoring in
    the dtype of `X`. As in the authors' code, the generator and the encoder minimise
    losses that do not saturate: minus the logarithm of what each discriminator says
    with the labels exchanged. The authors score with a running mean of the weights;
    here the last weights do. Discriminators have neither batch normalization nor
    dropout.

    References
    ----------
    .. [1] H. Zenati, M. Romain, C. S. Foo, B. Lecouat and V. R. Chandrasekhar,
       "Adversarially learned anomaly detection", ICDM, 2018, section IV.
    .. [2] T. Miyato, T. Kataoka, M. Koyama and Y. Yoshida, "Spectral normalization for
       generative adversarial networks", ICLR, 2018.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.adversarial import ALAD
    >>> X = np.random.default_rng(0).normal(size=(200, 1)) * np.ones(6)
    >>> detector = ALAD(latent_size=1, random_state=0).fit(X)
    >>> detector.predict([[1.0] * 6, [1.0] * 5 + [-1.0]])
    array([ 1, -1])
    >>> int(detector.transform([[1.0] * 5 + [-2.0]]).argmax())
    5
    """

    _network_class = ALADNetwork
    _parameter_constraints = {
        "latent_size": [Interval(Integral, 1, None, closed="left")],
        "measure": [StrOptions({"features", "logits", "l1", "l2"})],
        "spectral_norm": ["boolean"],
    }
    _optimizer_options = {"betas": (0.5, 0.999)}

    latent_size: int = 8
    measure: str = "features"
    spectral_norm: bool = True
    batch_size: int = 32
