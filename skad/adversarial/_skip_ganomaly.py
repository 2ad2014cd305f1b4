"""Skip-GANomaly: what a generator with skips cannot rebuild is anomalous."""

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
    generator_loss,
)
from skad.nn.network import over_channels
from skad.nn.unet import build_with_skips


class SkipGANomalyNetwork(AdversarialNetwork):
    """A generator with skips and a discriminator whose features are compared."""

    def __init__(
        self,
        shape,
        feature_size,
        adversarial_weight,
        context_weight,
        latent_weight,
        score_weight,
        architecture,
        hidden_sizes,
    ):
        super().__init__()
        self.generator = build_with_skips(architecture, shape, hidden_sizes)
        self.discriminator = Discriminator(
            shape, architecture, hidden_sizes, n_features=feature_size
        )
        self.weights = adversarial_weight, context_weight, latent_weight
        self.share = score_weight

    def groups(self, phase):
        """Return the weights of the generator and those of the discriminator."""
        return {
            "generator": self.generator.parameters(),
            "discriminator": self.discriminator.parameters(),
        }

    def updates(self, phase, x, y):
        """Yield equation (4), then the cross-entropy of the discriminator."""
        made = self.generator(x)
        with frozen(self.discriminator):
            features = self.discriminator(x)[1]
            judged, made_features = self.discriminator(made)
        latent = ((features - made_features) ** 2).mean()
        parts = generator_loss(judged), (x - made).abs().mean(), latent
        yield (
            "generator",
            sum(w * part for w, part in zip(self.weights, parts, strict=True)),
        )
        real, fake = self.discriminator(x)[0], self.discriminator(made.detach())[0]
        yield "discriminator", discriminator_loss(real, fake)

    def reconstruct(self, x):
        """Return what the generator makes of `x`."""
        return self.generator(x)

    def anomaly(self, x):
        """Return the weighted errors of the elements and of the features."""
        return self.distance(x, self.generator(x))

    def distance(self, x, made):
        """Return the weighted errors (b,) of what was made of `x`."""
        error = ((x - made) ** 2).flatten(1).mean(1)
        if self.share == 1:
            return error
        gap = self.discriminator(x)[1] - self.discriminator(made)[1]
        return self.share * error + (1 - self.share) * (gap**2).mean(1)

    def map(self, x):
        """Return the squared error of the reconstruction."""
        return over_channels((x - self.reconstruct(x)) ** 2)

    def inspect(self, x):
        """Return the weighted errors and those of the elements."""
        made = self.generator(x)
        return self.distance(x, made), over_channels((x - made) ** 2)


@with_parameters
class SkipGANomaly(IncrementalNetworkMixin, GameDetector):
    r"""Samples that differ from what a generator with skips makes of them.

    A U-shaped generator :math:`G`, whose encoder hands every layer's output across to
    the decoder, rebuilds normal samples, :math:`\hat x = G(x)`, against a discriminator
    :math:`D` with features :math:`f` that learns to tell :math:`x` from
    :math:`\hat x`. The generator minimises ([1]_, equations (1) to (4))

    .. math:: -\lambda_{adv}\log D(\hat x) + \lambda_{con}\|x - \hat x\|_1
        + \lambda_{lat}\|f(x) - f(\hat x)\|_2.

    The anomaly weighs the two errors (equation (5), with the squares of the authors'
    code), by default with :math:`\lambda = 1`,

    .. math:: a(x) = \lambda\|x - \hat x\|_2^2
        + (1 - \lambda)\|f(x) - f(\hat x)\|_2^2.

    The map is :math:`(x - \hat x)^2` at every element, summed over channels; its mean
    over the elements times :math:`\lambda` is the first part of the score.

    Read more in the :ref:`User Guide <adversarial>`.

    Parameters
    ----------
    feature_size : int, default=64
        Length of the discriminator's feature vector :math:`f`.
    adversarial_weight : float, default=1.0
        The weight :math:`\lambda_{adv}` of the discriminator's opinion.
    context_weight : float, default=40.0
        The weight :math:`\lambda_{con}` of the reconstruction's error.
    latent_weight : float, default=1.0
        The weight :math:`\lambda_{lat}` of the features' distance.
    score_weight : float, default=1.0
        The weight :math:`\lambda` of the reconstruction's error in the score, in
        [0, 1]; 0.9 in the paper.

    Attributes
    ----------
    history_ : list of dict
        Epoch, phase, seconds, "train_loss" (the sum), "generator_loss",
        "discriminator_loss" and, with `patience`, "valid_loss".

    See Also
    --------
    GANomaly : A generator without skips; the distance of two codes.

    Notes
    -----
    Norms are means over their elements and the second ones are squared, as in the
    authors' code; the paper's score has absolute errors of the elements, which are
    worse: for three classes of Fashion-MNIST, by 800 pictures in 12 epochs, a ROC AUC
    of .49 in the mean, against .56. By 1,500 pictures it gets .65 in the mean over the
    ten classes, far below the distance to the mean picture (.89). The paper takes
    :math:`\lambda = 0.9`. The authors' code has a weight of 50 instead of the paper's
    40 in the loss, adds the distance of the features to the discriminator's loss too,
    takes batches of 64 and a rate of 0.0002 that falls, pictures in -1..1 that the
    generator ends with tanh for, never leaves training mode to score, and keeps the
    epoch whose scores of the test set are best; nothing of that is done here. The
    features' distance has no part in the score by default: it is what the discriminator
    was trained to find, so it is larger for normal samples than for others (alone it
    got ROC AUCs of .09 to .37 for classes of Fashion-MNIST), and grows until it
    outweighs the error.

    Features are those before the discriminator's last layer. The paper scales the
    scores to 0..1 by the smallest and largest of the scored batch; here a score does
    not depend on the samples scored with it, and the ranking is the same. For rows the
    generator is made of linear layers with the same skips. With `architecture` a class,
    the generator has the skips that the class has. The discriminator has no batch
    normalization. Skips let a generator copy what it has never seen: the method looks
    for wrong textures and parts in large images rather than for another kind of object.
    Features should be on one scale (StandardScaler). Training is in float32, scoring in
    the dtype of `X`.

    References
    ----------
    .. [1] S. Akcay, A. Atapour-Abarghouei and T. P. Breckon, "Skip-GANomaly: skip
       connected and adversarially trained encoder-decoder anomaly detection", IJCNN,
       2019. arXiv:1901.08954.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.adversarial import SkipGANomaly
    >>> X = np.random.default_rng(0).normal(size=(200, 1)) * np.ones(6)
    >>> detector = SkipGANomaly(hidden_sizes=(8, 1), random_state=0).fit(X)
    >>> detector.predict([[1.0] * 6, [1.0] * 5 + [-8.0]])
    array([ 1, -1])
    >>> int(detector.transform([[1.0] * 5 + [-8.0]]).argmax())
    5
    """

    _network_class = SkipGANomalyNetwork
    _optimizer_options = {"betas": (0.5, 0.999)}
    _parameter_constraints = {
        "feature_size": [Interval(Integral, 1, None, closed="left")],
        "adversarial_weight": [Interval(Real, 0, None, closed="left")],
        "context_weight": [Interval(Real, 0, None, closed="left")],
        "latent_weight": [Interval(Real, 0, None, closed="left")],
        "score_weight": [Interval(Real, 0, 1, closed="both")],
    }

    feature_size: int = 64
    adversarial_weight: float = 1.0
    context_weight: float = 40.0
    latent_weight: float = 1.0
    score_weight: float = 1.0
    lr: float = 5e-4
