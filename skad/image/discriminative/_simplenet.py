"""SimpleNet: features that a discriminator takes for normal ones with noise."""

from numbers import Integral, Real

import torch
from torch import nn

from skad._parameters import with_parameters
from skad._sklearn import Interval
from skad.image._trained import TrainedImageDetector, split_maps
from skad.nn.network import Network
from skad.nn.statistics import Spread


def truncated_l1(normal, noisy, margin):
    """Return what the discriminator's values (n,) of both kinds cost, equation (10)."""
    return (margin - normal).relu().mean() + (margin + noisy).relu().mean()


class FeatureClassifier(Network):
    """A linear adaptor of features and a discriminator of made ones among them.

    The first of `shapes` is that of the features, (gh, gw, d).
    """

    def __init__(self, shapes, hidden_size, noise, adaptor_lr):
        super().__init__()
        self.shapes = shapes
        d = shapes[0][2]
        self.adaptor = nn.Linear(d, d)
        self.discriminator = nn.Sequential(
            nn.Linear(d, hidden_size),
            nn.BatchNorm1d(hidden_size),
            nn.LeakyReLU(0.2),
            nn.Linear(hidden_size, 1, bias=False),
        )
        for part in self.modules():
            if isinstance(part, nn.Linear):
                nn.init.xavier_normal_(part.weight)
        self.noise, self.adaptor_lr = noise, adaptor_lr

    def groups(self, phase):
        """Return one optimizer's parameters, the adaptor's with their own rate."""
        adaptor = {"params": self.adaptor.parameters(), "lr": self.adaptor_lr}
        return {"all": [adaptor, {"params": self.discriminator.parameters()}]}

    def adapted(self, x):
        """Return the adapted features of patches, (b gh gw, d)."""
        features = split_maps(x, self.shapes)[0]
        return self.adaptor(features.flatten(0, 2))

    def finish(self, batches, held=None):
        """Take the statistics of the norm from all of the training data.

        Those that it has are averages over the last steps, while the weights moved.
        """
        first, norm, *_ = self.discriminator
        spread = Spread()
        for x, _ in batches():
            spread.add(first(self.adapted(x)))
        norm.running_mean.copy_(spread.mean)
        # of normal patches and of as many with noise, which adds its own variance
        noise = self.noise**2 * first.weight.square().sum(1)
        norm.running_var.copy_(spread.variance() + noise / 2)

    def values(self, x):
        """Return the discriminator's values of patches, (b, gh, gw)."""
        values = self.discriminator(self.adapted(x))
        return values.reshape(-1, *self.shapes[0][:2])


class SimpleNetNetwork(FeatureClassifier):
    """A discriminator of features with noise, of small values, from those without."""

    def __init__(self, shapes, hidden_size, noise, margin, adaptor_lr, stop_loss):
        super().__init__(shapes, hidden_size, noise, adaptor_lr)
        self.margin, self.stop_loss = margin, stop_loss

    def loss(self, x, y):
        """Return the truncated l1 loss on a batch and on the same with noise."""
        normal = self.adapted(x)
        noisy = normal + self.noise * torch.randn_like(normal)
        both = self.discriminator(torch.cat([normal, noisy]))[:, 0]
        return truncated_l1(*both.chunk(2), self.margin)

    def is_learned(self, phase, loss):
        """Tell whether the loss is as low as is of use."""
        return self.stop_loss is not None and loss <= self.stop_loss * self.margin

    def map(self, x):
        """Return minus the discriminator's values, (b, gh, gw)."""
        return -self.values(x)


@with_parameters
class SimpleNet(TrainedImageDetector):
    r"""Patches whose features look to a discriminator like normal ones with noise.

    A frozen network describes each patch of a picture by features of its middle layers,
    averaged over the surroundings; a linear adaptor makes of them :math:`q`. A
    discriminator :math:`D` learns to tell :math:`q` from :math:`q^- = q + \epsilon`
    with Gaussian noise :math:`\epsilon`, together with the adaptor, by the truncated
    :math:`\ell_1` loss [1]_

    .. math:: \mathrm{mean} \max(0, \tau - D(q))
        + \mathrm{mean} \max(0, \tau + D(q^-)).

    The anomaly of a patch is :math:`-D(q)`, without noise. The map is that anomaly,
    interpolated to the pixels of the picture and smoothed, and the score is its
    maximum.

    Read more in the :ref:`User Guide <image>`.

    Parameters
    ----------
    noise : float, default=0.015
        Standard deviation of :math:`\epsilon`.
    margin : float, default=0.5
        :math:`\tau`, beyond which values cost nothing.
    hidden_size : int, default=1024
        Units of the discriminator's hidden layer.
    adaptor_lr : float, default=0.0001
        Learning rate of the adaptor.
    stop_loss : float or None, default=0.05
        Mean training loss of an epoch, in units of `margin`, at which training ends; a
        discriminator that knows nothing has 2. None trains all epochs.
    neighborhood : int, default=3
        Places, in both directions, over which features are averaged; odd.
    lr : float, default=0.0002
        Learning rate of the discriminator.
    random_state : int, RandomState instance or None, default=None
        Draws the weights, the batches and the noise. Pass an int for reproducible
        results.

    Attributes
    ----------
    net_ : torch.nn.Module
        The trained network, with its `adaptor` and `discriminator`.

    See Also
    --------
    PatchCore : The same features, compared with a memory of normal ones.

    Notes
    -----
    The paper is followed but for the length of the training. Its 160 epochs are 16,000
    steps on 400 pictures, and its figures those of the epoch that did best on the test
    set. Without it, pictures of magnetic tiles are told apart best after about 2,000
    steps and no better than by chance at the end: the loss is as good as zero, and the
    adaptor contracts. So training ends at `stop_loss`, which 64 pictures of tiles reach
    after 2,000 steps (``benchmarks/results/images_training.tsv``), or after 80 epochs,
    1,600 steps on 100 pictures of which a fifth is held out. The statistics of the norm
    are taken from all training patches then.

    The authors' code takes batches of 8, decouples the weight decay of the adaptor
    (0.01, AdamW), and scores a picture by its largest patch before smoothing, which
    ``smoothing=0`` comes near to. Features of several layers stand beside each other as
    they are, where the authors' code averages them to 1,536 numbers. The loss cannot
    see how large an anomaly is: far from the training data :math:`D` is extrapolated.
    Training is in float32, scoring in the dtype of `X`.

    References
    ----------
    .. [1] Z. Liu, Y. Zhou, Y. Xu and Z. Wang, "SimpleNet: a simple network for image
       anomaly detection and localization", CVPR, 2023, equations (5) to (12).

    Examples
    --------
    >>> import numpy as np
    >>> from skad.image import SimpleNet
    >>> rng = np.random.default_rng(0)
    >>> stripes = 0.5 + 0.2 * np.sin(np.arange(32) / 2)
    >>> good = stripes + rng.normal(0, 0.01, size=(20, 32, 32))
    >>> bad = good[:1].copy()
    >>> bad[0, 8:16, 16:24] = 0.9
    >>> detector = SimpleNet(max_epochs=20, smoothing=1, random_state=0).fit(good)
    >>> detector.predict(bad)
    array([-1])
    >>> row, column = np.unravel_index(detector.transform(bad)[0].argmax(), (32, 32))
    >>> bool(6 <= row <= 17 and 14 <= column <= 25)
    True
    """

    _resnet_layers = ("layer2", "layer3")
    _network_class = SimpleNetNetwork
    _parameter_constraints = {
        "noise": [Interval(Real, 0, None, closed="neither")],
        "margin": [Interval(Real, 0, None, closed="neither")],
        "hidden_size": [Interval(Integral, 1, None, closed="left")],
        "adaptor_lr": [Interval(Real, 0, None, closed="neither")],
        "stop_loss": [Interval(Real, 0, None, closed="neither"), None],
        "neighborhood": [Interval(Integral, 1, None, closed="left")],
    }

    noise: float = 0.015
    margin: float = 0.5
    hidden_size: int = 1024
    adaptor_lr: float = 1e-4
    stop_loss: float | None = 0.05
    neighborhood: int = 3
    max_epochs: int = 80
    batch_size: int = 4
    lr: float = 2e-4
    weight_decay: float = 1e-5

    def _layers(self, x):
        return [self.embedding_.embed(x)]
