"""GLASS: features moved to where a discriminator is least sure, and made defects."""

from collections.abc import Callable
from numbers import Integral, Real

import torch
from torch.nn import functional as F  # noqa: N812

from skad._parameters import with_parameters
from skad._sklearn import Interval, StrOptions
from skad._training import from_parameters
from skad.image._trained import TrainedImageDetector, split_maps
from skad.image.discriminative._simplenet import FeatureClassifier
from skad.nn.corruption import blend, foreign_textures
from skad.nn.losses import focal
from skad.nn.perlin import perlin_masks

# Steps of the ascent between two projections.
_BETWEEN = 5
# Of the focal loss of made defects.
_GAMMA = 2
# What Perlin noise exceeds where a made defect is.
_OUTLINE = 0.5
# Mean, deviation, least and largest share of the picture in its made defect.
_BLEND = 0.5, 0.1, 0.2, 0.8


def of_length(ways, least, most):
    """Return ways (n, d) of length `least` at least and `most` at most."""
    squares = ways.square().sum(1, keepdim=True)
    there = squares > 0  # no way has no direction, and its root has no gradient
    lengths = torch.where(there, squares, 1.0).sqrt()
    return ways * torch.where(there, lengths.clamp(least, most) / lengths, 1.0)


def hard_focal(logits, labels, quantile):
    """Return the focal loss of places (n,) whose squared error is not below a quantile.

    Parameters
    ----------
    logits, labels : tensor of shape (n,)
        Of places; labels are 1 for anomalies.
    quantile : float
        Share of the places that are left out.
    """
    with torch.no_grad():
        errors = (logits.sigmoid() - labels).square()
        n_hard = max(1, int(round(len(errors) * (1 - quantile), 6)))
        hard = errors >= errors.topk(n_hard).values[-1]
    return focal(logits[hard], labels[hard], _GAMMA)


class GLASSNetwork(FeatureClassifier):
    """A discriminator of normal features, of features around and of made defects.

    Parameters
    ----------
    shapes : list of tuple
        (gh, gw, d) of features and (c, h, w) of pictures.
    describe : callable
        From pictures (b, h, w, c) to features (b, gh, gw, d).
    hidden_size, noise, distribution, radius, radius_quantile, n_ascent_steps, \
ascent_lr, hard_quantile, adaptor_lr
        As for `GLASS`.
    """

    def __init__(
        self,
        shapes,
        describe,
        hidden_size,
        noise,
        distribution,
        radius,
        radius_quantile,
        n_ascent_steps,
        ascent_lr,
        hard_quantile,
        adaptor_lr,
    ):
        super().__init__(shapes, hidden_size, noise, adaptor_lr)
        self.describe = describe
        self.has_centers = distribution == "hypersphere"
        self.radius, self.radius_quantile = radius, radius_quantile
        self.n_ascent_steps, self.ascent_lr = n_ascent_steps, ascent_lr
        self.hard_quantile = hard_quantile
        self.register_buffer("centers", torch.zeros(shapes[0]))

    # ---------------------------------------------------------------- what is learned

    def begin(self, phase, batches):
        """Take the mean adapted features of places."""
        self.end_epoch(phase, batches)

    def end_epoch(self, phase, batches):
        """Take the mean adapted features of places, with the adaptor as it is now."""
        if not self.has_centers:
            return
        n, total = 0, 0.0
        with torch.no_grad():
            for x, _ in batches():
                total = total + self.adapted(x).unflatten(0, (len(x), -1)).sum(0)
                n += len(x)
        self.centers.copy_((total / n).view_as(self.centers))

    def loss(self, x, y):
        """Return the losses of normal features, of those around and of made defects."""
        normal, n = self.adapted(x), len(x)
        around = self.around(normal, n)
        both = self.discriminator(torch.cat([normal, around]))[:, 0]
        labels = torch.cat([torch.zeros_like(both[: len(normal)])] * 2)
        labels[len(normal) :] = 1
        loss = 2 * F.binary_cross_entropy_with_logits(both, labels)  # the sum of both
        defects, mask = self.defects(x, normal)
        found = self.discriminator(defects)[:, 0]
        return loss + hard_focal(found, mask, self.hard_quantile)

    # ------------------------------------------------------------ anomalies of features

    def origins(self, normal, n):
        """Return where shifts of features (n gh gw, d) of n pictures start."""
        if not self.has_centers:
            return normal
        return self.centers.flatten(0, 1).repeat(n, 1).to(normal)

    def reach(self, ways):
        """Return the least length of a shift, from those that there are, (n, d)."""
        if not self.has_centers:
            return self.radius
        lengths = ways.square().sum(1).sqrt()
        # torch.quantile takes few values
        k = min(len(lengths), int(self.radius_quantile * (len(lengths) - 1)) + 1)
        return float(lengths.kthvalue(k).values)

    def around(self, normal, n):
        """Return global anomalies: features around those (n gh gw, d) of n pictures.

        They get noise, then go where the loss of calling them anomalous is larger, and
        every few steps back to a shell around their origin. What they teach the adaptor
        they teach it as if they stood at a fixed shift from the normal ones.
        """
        known = normal.detach()
        origin = self.origins(known, n)
        found = known + self.noise * torch.randn_like(known)
        for step in range(1, self.n_ascent_steps + 1):
            gradient = self.gradient(known, found)
            length = gradient.square().sum(1, keepdim=True).sqrt()
            tiny = torch.finfo(length.dtype).tiny
            found = found + self.ascent_lr * gradient / length.clamp(min=tiny)
            if step % _BETWEEN == 0:
                ways = found - origin
                reach = self.reach(ways)
                found = origin + of_length(ways, reach, 2 * reach)
        return normal + (found - known)

    def gradient(self, normal, found):
        """Return the gradient of what it costs to call `found` (m, d) anomalous."""
        with torch.enable_grad():  # where it is watched there are none
            moved = found.clone().requires_grad_()
            both = self.discriminator(torch.cat([normal, moved]))[len(normal) :, 0]
            return torch.autograd.grad(F.softplus(-both).sum(), moved)[0]

    # ------------------------------------------------------------ anomalies of pictures

    def altered(self, pictures):
        """Return pictures (b, c, h, w) with textures in them, and where, (b, h, w)."""
        mask = perlin_masks(len(pictures), tuple(pictures.shape[2:]), _OUTLINE)
        mean, deviation, least, largest = _BLEND
        share = (mean + deviation * torch.randn(len(pictures))).clamp(least, largest)
        mask = mask.to(pictures.device)
        return blend(pictures, foreign_textures(pictures), mask, share), mask

    def defects(self, x, normal):
        """Return adapted features (b gh gw, d) of altered pictures, and their mask."""
        pictures = split_maps(x, self.shapes)[1]
        with torch.no_grad():
            seen, mask = self.altered(pictures)
            features = self.describe(seen.movedim(1, 3)).to(x)
            grid = self.shapes[0][:2]
            mask = F.adaptive_max_pool2d(mask.to(x)[:, None], grid).flatten()
        found = self.adaptor(features.flatten(0, 2))
        if not self.has_centers or not mask.any():
            return found, mask
        origin, inside = self.origins(normal, len(x)), mask == 1
        ways = (found - origin)[inside]
        reach = self.reach(ways.detach())
        moved = torch.zeros_like(found)
        moved[inside] = of_length(ways, 2 * reach, 4 * reach) - ways
        return found + moved, mask

    def finish(self, batches, held=None):
        """Let go of what described altered pictures, which no file could hold."""
        super().finish(batches, held)
        self.describe = None

    def map(self, x):
        """Return the discriminator's logits, (b, gh, gw)."""
        return self.values(x)


@with_parameters
class GLASS(TrainedImageDetector):
    r"""Patches whose features a discriminator takes for ones around normal ones.

    A frozen network describes each patch of a picture by features of its middle layers,
    averaged over the surroundings; a linear adaptor makes of them :math:`q`. A
    discriminator :math:`D` learns to tell :math:`q` from two kinds of anomalies
    [1]_. Global ones are made of features: to :math:`q` comes Gaussian noise, then the
    sum :math:`v` goes `n_ascent_steps` times uphill where :math:`D` errs,

    .. math:: v \leftarrow v + \eta \, \frac{\nabla_v L(D(v), 1)}
        {\lVert \nabla_v L(D(v), 1) \rVert},

    and every fifth time its way from an origin is brought to a length in
    :math:`[r, 2 r]`. On a "manifold" the origin is :math:`q` itself and :math:`r` is
    `radius`; in a "hypersphere" it is the mean of the place over the training pictures,
    and :math:`r` a quantile of the distances to it. Local ones are made of pictures,
    with other textures where Perlin noise exceeds 0.5; in a hypersphere their features
    are brought to :math:`[2 r, 4 r]`. Training makes small the cross entropies of
    normal and of global ones and the focal loss of the pictures with textures, over the
    worse half of their places. The anomaly of a patch is the logit :math:`D(q)`; the
    map is that, interpolated to the pixels of the picture and smoothed, and the score
    is its maximum.

    Read more in the :ref:`User Guide <image>`.

    Parameters
    ----------
    distribution : {"manifold", "hypersphere"}, default="manifold"
        Where global anomalies lie. "hypersphere" is for pictures that are aligned and
        alike.
    noise : float, default=0.015
        Standard deviation of the noise that the ascent starts from.
    radius : float, default=0.5
        :math:`r` on a manifold. The paper's is for a Wide-ResNet-50-2, whose features
        other networks' differ from in size.
    radius_quantile : float, default=0.75
        Which quantile of the distances is :math:`r` in a hypersphere.
    n_ascent_steps : int, default=20
        Steps uphill; none leaves the noise, as in :class:`SimpleNet`.
    ascent_lr : float, default=0.001
        Length :math:`\eta` of a step.
    hard_quantile : float, default=0.5
        Share of the places of pictures with textures that do not count, those with the
        smallest errors.
    hidden_size : int, default=1024
        Units of the discriminator's hidden layer.
    adaptor_lr : float, default=0.0001
        Learning rate of the adaptor.
    neighborhood : int, default=3
        Places, in both directions, over which features are averaged; odd.
    lr : float, default=0.0002
        Learning rate of the discriminator.
    random_state : int, RandomState instance or None, default=None
        Draws the weights, the batches, the noise and the textures. Pass an int for
        reproducible results.

    Attributes
    ----------
    net_ : torch.nn.Module
        The trained network, with its `adaptor`, `discriminator` and `centers`.

    See Also
    --------
    SimpleNet : Noise alone.
    SuperSimpleNet : Noise in patches of features.

    Notes
    -----
    A step asks the backbone once, for the pictures with textures, and the discriminator
    once for each step uphill: it costs some twenty times that of :class:`SimpleNet`.
    With the built-in bank of filters it has nothing to learn from in a few steps: after
    10 epochs on small drawn textures its ROC AUC was .50, that of chance, and 40 were
    no better. On real pictures it was not measured here; the paper's figures are those
    of the epoch that did best on the test pictures, and without labels there is no such
    choice.

    Departures from the authors' code: textures are those of other pictures of the
    batch, cut into bands that change places, half of them inverted, where theirs come
    from a set of textures that would have to be downloaded; which of the two
    distributions it is they decide for each kind of picture, here it is said. The
    adaptor's weight decay is the discriminator's. The statistics of the norm are taken
    from all training patches when the training has ended. Scores are logits: theirs are
    the sigmoid, which orders places in the same way. Training is in float32, scoring in
    the dtype of `X`.

    References
    ----------
    .. [1] Q. Chen, H. Luo, C. Lv and Z. Zhang, "A unified anomaly synthesis strategy
       with gradient ascent for industrial anomaly detection and localization", ECCV,
       2024.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.image import GLASS
    >>> rng = np.random.default_rng(0)
    >>> stripes = 0.5 + 0.2 * np.sin(np.arange(32) / 2)
    >>> good = stripes + rng.normal(0, 0.01, size=(20, 32, 32))
    >>> detector = GLASS(
    ...     layers=["scale2"], hidden_size=64, max_epochs=2, random_state=0
    ... )
    >>> detector.fit(good).transform(good[:1]).shape
    (1, 32, 32)
    """

    _resnet_layers = ("layer2", "layer3")
    _parameter_constraints = {
        "distribution": [StrOptions({"manifold", "hypersphere"})],
        "noise": [Interval(Real, 0, None, closed="neither")],
        "radius": [Interval(Real, 0, None, closed="left")],
        "radius_quantile": [Interval(Real, 0, 1, closed="both")],
        "n_ascent_steps": [Interval(Integral, 0, None, closed="left")],
        "ascent_lr": [Interval(Real, 0, None, closed="neither")],
        "hard_quantile": [Interval(Real, 0, 1, closed="left")],
        "hidden_size": [Interval(Integral, 1, None, closed="left")],
        "adaptor_lr": [Interval(Real, 0, None, closed="neither")],
        "neighborhood": [Interval(Integral, 1, None, closed="left")],
    }

    distribution: str = "manifold"
    noise: float = 0.015
    radius: float = 0.5
    radius_quantile: float = 0.75
    n_ascent_steps: int = 20
    ascent_lr: float = 1e-3
    hard_quantile: float = 0.5
    hidden_size: int = 1024
    adaptor_lr: float = 1e-4
    neighborhood: int = 3
    max_epochs: int = 640
    batch_size: int = 8
    lr: float = 2e-4
    weight_decay: float = 1e-5
    optimizer: str | Callable = "adamw"

    def _layers(self, x):
        return [self.embedding_.embed(x), self.embedding_._resized(x)]

    def _network(self, shapes):
        return from_parameters(self, GLASSNetwork, shapes, self.embedding_.embed)
