"""GANomaly: what is encoded otherwise before and after it was rebuilt is anomalous."""

from numbers import Integral, Real

from skad._parameters import with_parameters
from skad._sklearn import Interval
from skad._training import IncrementalNetworkMixin
from skad.adversarial._game import GameDetector
from skad.nn.adversarial import (
    AdversarialNetwork,
    Discriminator,
    discriminator_loss,
    frozen,
)
from skad.nn.architecture import build
from skad.nn.network import over_channels


class GANomalyNetwork(AdversarialNetwork):
    """Encoder, decoder, second encoder, and a discriminator."""

    makers = ("decoder",)

    def __init__(
        self,
        shape,
        latent_size,
        feature_size,
        adversarial_weight,
        context_weight,
        encoder_weight,
        architecture,
        hidden_sizes,
    ):
        super().__init__()
        self.encoder = build(architecture, shape, (latent_size,), hidden_sizes)
        self.decoder = build(architecture, (latent_size,), shape, hidden_sizes)
        self.second_encoder = build(architecture, shape, (latent_size,), hidden_sizes)
        self.discriminator = Discriminator(
            shape, architecture, hidden_sizes, n_features=feature_size
        )
        self.weights = adversarial_weight, context_weight, encoder_weight

    def groups(self, phase):
        """Return the weights of the generator and those of the discriminator."""
        parts = self.encoder, self.decoder, self.second_encoder
        return {
            "generator": [weight for part in parts for weight in part.parameters()],
            "discriminator": self.discriminator.parameters(),
        }

    def codes(self, x):
        """Return the code of `x`, its reconstruction, and the code of that."""
        code = self.encoder(x)
        made = self.decoder(code)
        return code, made, self.second_encoder(made)

    def updates(self, phase, x, y):
        """Yield equation (4), then the cross-entropy of the discriminator."""
        code, made, second = self.codes(x)
        with frozen(self.discriminator):
            gap = self.discriminator(x)[1] - self.discriminator(made)[1]
        parts = (gap**2).mean(), (x - made).abs().mean(), ((code - second) ** 2).mean()
        yield (
            "generator",
            sum(w * part for w, part in zip(self.weights, parts, strict=True)),
        )
        real, fake = self.discriminator(x)[0], self.discriminator(made.detach())[0]
        yield "discriminator", discriminator_loss(real, fake)

    def reconstruct(self, x):
        """Return what the decoder makes of the code of `x`."""
        return self.decoder(self.encoder(x))

    def anomaly(self, x):
        """Return the distance between the two codes, equation (5)."""
        code, _, second = self.codes(x)
        return (code - second).abs().sum(1)

    def map(self, x):
        """Return the absolute error of the reconstruction."""
        return over_channels((x - self.reconstruct(x)).abs())

    def inspect(self, x):
        """Return the distance of the codes and the errors on the way between them."""
        code, made, second = self.codes(x)
        return (code - second).abs().sum(1), over_channels((x - made).abs())


@with_parameters
class GANomaly(IncrementalNetworkMixin, GameDetector):
    r"""Samples whose code changes when they are rebuilt and encoded again.

    An encoder :math:`G_E` and a decoder :math:`G_D` rebuild a sample,
    :math:`\hat x = G_D(G_E(x))`, and a second encoder :math:`E` encodes what they made.
    They are trained on normal samples to minimise

    .. math:: w_{adv}\|f(x) - f(\hat x)\|_2 + w_{con}\|x - \hat x\|_1
        + w_{enc}\|G_E(x) - E(\hat x)\|_2

    with the features :math:`f` of a discriminator that learns to tell :math:`x` from
    :math:`\hat x` by cross-entropy ([1]_, equations (1) to (4)). The anomaly is the
    distance of the two codes (equation (5)),

    .. math:: a(x) = \|G_E(x) - E(G_D(G_E(x)))\|_1.

    The map is :math:`|x - \hat x|` at every element, summed over channels: it shows
    where the reconstruction differs and is not part of the score.

    Read more in the :ref:`User Guide <adversarial>`.

    Parameters
    ----------
    latent_size : int, default=100
        Length of the codes.
    feature_size : int, default=64
        Length of the discriminator's feature vector :math:`f`.
    adversarial_weight : float, default=1.0
        The weight :math:`w_{adv}` of the features' distance.
    context_weight : float, default=50.0
        The weight :math:`w_{con}` of the reconstruction's error.
    encoder_weight : float, default=1.0
        The weight :math:`w_{enc}` of the codes' distance.

    Attributes
    ----------
    net_ : torch.nn.Module
        The trained network, with its `encoder`, `decoder`, `second_encoder` and
        `discriminator`.
    history_ : list of dict
        Epoch, phase, seconds, "train_loss" (the sum), "generator_loss",
        "discriminator_loss" and, with `patience`, "valid_loss".

    See Also
    --------
    SkipGANomaly : A generator with skips; errors instead of codes.
    skad.reconstruction.AutoEncoder : The reconstruction without a discriminator.

    Notes
    -----
    Norms in the loss are means over their elements and the second ones are squared, as
    in the authors' code, which the weights 1, 50 and 1 belong to; features are those
    before the discriminator's last layer. The paper scales the scores to 0..1 by the
    smallest and largest of the scored batch (equation (6)); here a score does not
    depend on the samples scored with it, and the ranking is the same. The authors start
    the discriminator anew when its loss vanishes, which is left out, and take 0.002
    (paper) or 0.0002 (code) for `lr`. The discriminator has no batch normalization.
    Features should be on one scale (StandardScaler). Training is in float32, scoring in
    the dtype of `X`. Weak on small tables: trained on 250 rows of each of ten it gets a
    ROC AUC of .78 in the mean, where the norm of the standardized row gets .83.

    References
    ----------
    .. [1] S. Akcay, A. Atapour-Abarghouei and T. P. Breckon, "GANomaly: semi-supervised
       anomaly detection via adversarial training", ACCV, 2018. arXiv:1805.06725.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.adversarial import GANomaly
    >>> X = np.random.default_rng(0).normal(size=(200, 1)) * np.ones(6)
    >>> detector = GANomaly(batch_size=16, random_state=0).fit(X)
    >>> detector.predict([[1.0] * 6, [1.0] * 5 + [-8.0]])
    array([ 1, -1])
    >>> int(detector.transform([[1.0] * 5 + [-8.0]]).argmax())
    5
    """

    _network_class = GANomalyNetwork
    _optimizer_options = {"betas": (0.5, 0.999)}
    _parameter_constraints = {
        "latent_size": [Interval(Integral, 1, None, closed="left")],
        "feature_size": [Interval(Integral, 1, None, closed="left")],
        "adversarial_weight": [Interval(Real, 0, None, closed="left")],
        "context_weight": [Interval(Real, 0, None, closed="left")],
        "encoder_weight": [Interval(Real, 0, None, closed="left")],
    }

    latent_size: int = 100
    feature_size: int = 64
    adversarial_weight: float = 1.0
    context_weight: float = 50.0
    encoder_weight: float = 1.0
    lr: float = 5e-4
