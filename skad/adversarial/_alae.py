"""ALAE: an autoencoder whose codes are learned, and matched as codes."""

from numbers import Integral, Real

import torch
from torch.nn import functional

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
    r1_penalty,
    without_batch_norm,
)
from skad.nn.architecture import build
from skad.nn.network import over_channels


class ALAENetwork(AdversarialNetwork):
    """Mapping of noise to codes, generator, encoder, and a discriminator of codes."""

    def __init__(
        self,
        shape,
        latent_size,
        feature_size,
        penalty_weight,
        measure,
        architecture,
        hidden_sizes,
    ):
        super().__init__()
        self.mapping = build(
            "mlp", (latent_size,), (latent_size,), (feature_size, feature_size)
        )
        self.generator = build(architecture, (latent_size,), shape, hidden_sizes)
        # it is part of what judges samples
        self.encoder = without_batch_norm(
            build(architecture, shape, (latent_size,), hidden_sizes)
        )
        self.discriminator = Discriminator(
            (latent_size,), "mlp", (feature_size,), n_features=feature_size
        )
        self.latent_size, self.penalty_weight = latent_size, penalty_weight
        self.measure = measure

    def groups(self, phase):
        """Return the weights of both sides, and those that bring codes back."""
        encoder = list(self.encoder.parameters())
        generator = list(self.generator.parameters())
        return {
            "discriminator": [*encoder, *self.discriminator.parameters()],
            "generator": [*self.mapping.parameters(), *generator],
            "reciprocity": [*encoder, *generator],
        }

    def updates(self, phase, x, y):
        """Yield both sides of the game, then the error of codes that come back."""
        with torch.no_grad():
            made = self.generator(self.mapping(self.draw(x)))
        loss = discriminator_loss(self.judge(x), self.judge(made))
        if self.penalty_weight:
            # compiled modules have no second derivatives, so the penalty goes around
            penalty = r1_penalty(
                lambda x: self.discriminator.forward(self.encoder.forward(x))[0], x
            )
            loss = loss + self.penalty_weight / 2 * penalty
        yield "discriminator", loss
        with frozen(self.encoder, self.discriminator):
            fake = self.judge(self.generator(self.mapping(self.draw(x))))
        yield "generator", generator_loss(fake)
        with torch.no_grad():
            code = self.mapping(self.draw(x))
        back = self.encoder(self.generator(code))
        yield "reciprocity", functional.mse_loss(back, code)

    def draw(self, x):
        """Return as much noise as `x` has samples, from the normal prior."""
        return torch.randn(len(x), self.latent_size, device=x.device)

    def judge(self, x):
        """Return the logits of the codes of samples."""
        return self.discriminator(self.encoder(x))[0]

    def reconstruct(self, x):
        """Return what the generator makes of the code of `x`."""
        return self.generator(self.encoder(x))

    def anomaly(self, x):
        return self.inspect(x)[0]

    def map(self, x):
        return over_channels((x - self.reconstruct(x)).square())

    def inspect(self, x):
        code = self.encoder(x)
        rebuilt = self.generator(code)
        maps = over_channels((x - rebuilt).square())
        if self.measure == "reconstruction":
            return maps.flatten(1).sum(1), maps
        return (code - self.encoder(rebuilt)).square().sum(1), maps


@with_parameters
class ALAE(IncrementalNetworkMixin, GameDetector):
    r"""Samples that a generator does not rebuild from a code that it helped to learn.

    Noise :math:`z \sim N(0, I)` goes through a mapping :math:`F` to a code, and a
    generator :math:`G` makes a sample of it; an encoder :math:`E` leads back to codes,
    and a discriminator :math:`D` judges these [1]_. No distribution of codes is
    prescribed, and no error of samples is made small. Each batch takes three steps: on
    :math:`E` and :math:`D` with

    .. math:: -\log D(E(x)) - \log(1 - D(E(G(F(z)))))
        + \tfrac{\gamma}{2} \|\nabla_x D(E(x))\|^2,

    on :math:`F` and :math:`G` with :math:`-\log D(E(G(F(z))))`, and on :math:`E` and
    :math:`G` with the mean squared error of the codes :math:`w = F(z)` that come back,
    :math:`E(G(w))`. The anomaly is

    .. math:: a(x) = \|x - G(E(x))\|^2 \quad\text{or}\quad
        a(x) = \|E(x) - E(G(E(x)))\|^2.

    The map is the squared error of every element, summed over channels: its sum is the
    first score, and it is not part of the second.

    Read more in the :ref:`User Guide <adversarial>`.

    Parameters
    ----------
    latent_size : int, default=8
        Length of noise and codes.
    feature_size : int, default=64
        Units of the two hidden layers of the mapping and of the discriminator, linear
        for any `architecture`.
    penalty_weight : float, default=10.0
        The weight :math:`\gamma` of the discriminator's gradients.
    measure : {"reconstruction", "code"}, default="reconstruction"
        The squared error of the sample, or that of its code.

    Attributes
    ----------
    net_ : torch.nn.Module
        The trained network, with its `mapping`, `generator`, `encoder` and
        `discriminator`.

    See Also
    --------
    ALAD : Errors of samples and of codes have discriminators of their own.

    Notes
    -----
    The paper detects no anomalies; both scores are those of other methods of its kind.
    On ten small tables, trained on 250 rows of each, the ROC AUC is .86 in the mean,
    where the norm of the standardized row gets .83. On pictures it is below the
    distance to the mean: three classes of Fashion-MNIST against the others get .81 in
    the mean by the error of the sample, by 1,500 pictures in 20 epochs of linear
    layers, and .49 by that of the code, where the distance gets .86; two of them .81 by
    convolutions, 600 pictures in 12 epochs, and the distance .85.

    The authors' networks have layers whose learning rates are equalised, and the third
    step uses the optimizers of the first two; here it has its own. Encoder and
    discriminator have no batch normalization. Features should be on one scale
    (StandardScaler). Training is in float32, scoring in the dtype of `X`.

    References
    ----------
    .. [1] S. Pidhorskyi, D. A. Adjeroh and G. Doretto, "Adversarial latent
       autoencoders", CVPR, 2020, section 4 and algorithm 1. arXiv:2004.04467.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.adversarial import ALAE
    >>> X = np.random.default_rng(0).normal(size=(200, 1)) * np.ones(6)
    >>> detector = ALAE(latent_size=1, random_state=0).fit(X)
    >>> detector.predict([[1.0] * 6, [1.0] * 5 + [-8.0]])
    array([ 1, -1])
    >>> int(detector.transform([[1.0] * 5 + [-8.0]]).argmax())
    5
    """

    _network_class = ALAENetwork
    _optimizer_options = {"betas": (0.0, 0.99)}
    _parameter_constraints = {
        "latent_size": [Interval(Integral, 1, None, closed="left")],
        "feature_size": [Interval(Integral, 1, None, closed="left")],
        "penalty_weight": [Interval(Real, 0, None, closed="left")],
        "measure": [StrOptions({"reconstruction", "code"})],
    }

    latent_size: int = 8
    feature_size: int = 64
    penalty_weight: float = 10.0
    measure: str = "reconstruction"
    lr: float = 2e-3

    @property
    def _map_sums_to_score(self):
        return self.measure == "reconstruction"
