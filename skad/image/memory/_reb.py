"""REB: a backbone that has learned to tell made defects, and nearest normal patches."""

from collections.abc import Callable
from numbers import Integral, Real

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from skad._parameters import with_parameters
from skad._sklearn import Interval
from skad._training import warm_cosine
from skad.embedding._taps import join_maps
from skad.image._tuned import TunedDetector, TunedNetwork
from skad.image.memory._search import nearest
from skad.nn.corruption import ColourJitter
from skad.nn.defects import FILLS, SHAPES, of_all_kinds

# Widths of the hidden layers that tell kinds of defects.
_HIDDEN = (512, 256)
# Places of the map, down and across, of which the mean counts for the picture.
_POOL = 3


def classifier(d, n_classes):
    """Return the layers that tell kinds from d features."""
    layers = []
    for width in _HIDDEN:
        layers += [nn.Linear(d, width), nn.BatchNorm1d(width), nn.ReLU()]
        d = width
    return nn.Sequential(*layers, nn.Linear(d, n_classes))


def transposed(x):
    """Return pictures (b, c, h, w) that are turned and mirrored at random, together."""
    turns = 2 if x.shape[2] != x.shape[3] else 1  # or the shape would change
    x = x.rot90(turns * int(torch.randint(4 // turns, ())), (2, 3))
    return x.flip(3) if torch.rand(()) < 0.5 else x


class REBNetwork(TunedNetwork):
    """A backbone, what tells kinds of defects, and a memory of patches."""

    fixed_statistics = ()

    def __init__(
        self,
        shapes,
        encoder,
        norms,
        repeat,
        trained_parts,
        neighborhood,
        n_neighbors,
        density_weight,
        max_patches,
    ):
        super().__init__(shapes, encoder, norms, repeat, trained_parts)
        self.neighborhood, self.n_neighbors = neighborhood, n_neighbors
        self.density_weight, self.max_patches = density_weight, max_patches
        self.jitter = ColourJitter(0.1)
        with torch.no_grad():
            maps = self.layers(torch.zeros(1, *self.picture))
        self.head = classifier(maps[-1].shape[1], 1 + len(SHAPES) * len(FILLS))
        d = sum(each.shape[1] for each in maps)
        # as many as there are pictures, and made anew when a training goes on
        self.register_buffer("bank", torch.zeros(0, d), persistent=False)
        self.register_buffer("spread", torch.zeros(0), persistent=False)

    def layers(self, x):
        """Return the maps of all layers of pictures (b, c, h, w) in 0..1."""
        if self.repeat > 1:
            x = x.expand(-1, self.repeat, -1, -1)
        return self.encoder((x - self.input_mean) / self.input_std)

    def patches(self, x):
        """Return the features (b, gh, gw, d) of the patches of pictures."""
        return join_maps(self.layers(x), self.neighborhood)

    def logits(self, x):
        """Return what the classifier says (b, 7) of pictures."""
        return self.head(self.layers(x)[-1].mean((2, 3)))

    def loss(self, x, y):
        """Return how badly kinds of defects made in the pictures are told."""
        x = self.pictures(x)
        if self.training:
            x = transposed(self.jitter(x).clamp(0, 1))
        made, kinds = of_all_kinds(x)
        said = self.logits(made)
        wanted = F.one_hot(kinds, said.shape[1]).to(said)
        return F.binary_cross_entropy_with_logits(said, wanted) + 0 * self.idle

    def finish(self, batches, held=None):
        """Keep patches of the training pictures, and how far apart they are."""
        kept = (x if y is None else x[y >= 0] for x, y in batches())
        rows = [self.patches(self.pictures(x)).flatten(0, 2) for x in kept if len(x)]
        rows = torch.cat(rows)
        if self.max_patches is not None and self.max_patches < len(rows):
            drawn = torch.randperm(len(rows))[: self.max_patches].sort().values
            rows = rows[drawn.to(rows.device)]
        k = min(self.n_neighbors, len(rows) - 1)
        # every row is a picture of its own, that is not its own neighbour
        own = torch.arange(len(rows), device=rows.device)
        away, _ = nearest(rows, rows, rows.square().sum(1), own, own, k)
        self.bank, self.spread = rows, away.square().mean(1)

    def map(self, x):
        """Return the anomaly (b, gh, gw) of patches."""
        features = self.patches(self.pictures(x))
        bank = self.bank.to(features)
        away, near = nearest(features.flatten(0, 2), bank, bank.square().sum(1))
        found = away.square() - self.density_weight * self.spread.to(features)[near]
        return found.reshape(features.shape[:3])

    def inspect(self, x):
        """Return the anomaly (b,) of pictures and that (b, gh, gw) of patches."""
        found = self.map(x)
        side = min(_POOL, *found.shape[1:])
        return F.avg_pool2d(found[:, None], side).amax((1, 2, 3)), found

    def anomaly(self, x):
        """Return the largest mean over cells of the map."""
        return self.inspect(x)[0]


@with_parameters
class REB(TunedDetector):
    r"""Patches far from normal ones, to a backbone that has learned of made defects.

    First the backbone learns to tell seven kinds of pictures: normal ones, and those
    with a spot, a scar or a clump of smooth outline that noise or a piece of another
    picture fills [1]_. Then it describes the patches of normal pictures. With the
    nearest of these, :math:`y`, and its own `k` nearest :math:`N(y)`, the anomaly of a
    patch :math:`x` is

    .. math:: a(x) = \lVert x - y \rVert^2 -
        \frac{c}{k} \sum_{z \in N(y)} \lVert y - z \rVert^2.

    The score of a picture is the largest mean of :math:`a` over cells of 3 x 3 patches.
    The map is :math:`a`, interpolated to the pixels and smoothed.

    Read more in the :ref:`User Guide <image>`.

    Parameters
    ----------
    n_neighbors : int, default=5
        Number `k` of neighbours of the nearest patch, at most as many as there are. The
        authors try 3 to 11 on parts that differ little and 39 to 57 on scenes.
    density_weight : float, default=1.0
        The weight :math:`c`; 0 is the squared distance to the nearest patch.
    neighborhood : int, default=3
        Odd side of the square of places whose features are averaged for each patch.
    max_patches : int or None, default=20000
        Patches of normal pictures, drawn at random, that are kept; None is all.
    layers : tuple of str or None, default=None
        Names of layers of the backbone that describe patches, the last of which the
        kinds of defects are told from; None is the second and third of a ResNet, and
        all of the bank of filters.
    max_epochs : int, default=50
        Passes over the training pictures, of each of which all kinds are made.
    lr : float, default=0.03
        Learning rate, with a momentum of 0.9, which falls as half a cosine does.
    random_state : int, RandomState instance or None, default=None
        Draws batches, defects and patches. Pass an int for reproducible results.

    Attributes
    ----------
    net_ : torch.nn.Module
        The trained network, with its `encoder`, `head`, `bank` and `spread`.

    See Also
    --------
    skad.neighbors.LDKNN : The second half by itself, for rows.
    skad.self_supervised.CutPaste : Tells pieces that are pasted.
    PatchCore : A bank that covers normal patches, of a backbone as it is.

    Notes
    -----
    The authors' code trains all of a ResNet-18, whose fourth layer the kinds are told
    from, for 300 steps of 146 pictures of 256 pixels with all their kinds, in the first
    40 of which the backbone stays; it keeps all patches (``max_patches=None``). Here
    the last two of the stages that are tapped are trained, from the first step on, and
    the last one is what kinds are told from. Pieces come from other pictures of the
    batch, and defects may lie anywhere: the authors have files that say where the
    object is. Of a defect the outline has 5 or 6 corners (to 9 of a clump), half of
    the edges straight; the fill is a tenth lighter or darker, and half of the borders
    are soft.

    With a ResNet-18, at 128 pixels, areas under the ROC curve of pictures / of pixels
    are 0.991 / 0.951 on 31 cookies before the training, 0.989 / 0.954 after ten steps:
    what little was trained neither helped nor harmed (`PatchCore` 0.998 / 0.955).

    A step computes seven pictures for each of the batch; scoring is that of `KNN` with
    one neighbour. The bank of filters, the default, has nothing to train.

    References
    ----------
    .. [1] S. Lyu, D. Mo and W. K. Wong, "REB: reducing biases in representation for
       industrial anomaly detection", Knowledge-Based Systems, 2024.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.image import REB
    >>> rng = np.random.default_rng(0)
    >>> good = rng.normal(0.5, 0.02, size=(12, 32, 32))
    >>> bad = good[:1].copy()
    >>> bad[0, 8:14, 18:24] = 1.0
    >>> REB(max_epochs=1, random_state=0).fit(good).predict(bad)
    array([-1])
    """

    n_neighbors: int = 5
    density_weight: float = 1.0
    neighborhood: int = 3
    max_patches: int | None = 20000
    batch_size: int = 32
    max_epochs: int = 50
    optimizer: str | Callable = "sgd"
    lr: float = 0.03
    weight_decay: float = 3e-5

    _network_class = REBNetwork
    _optimizer_options = {"momentum": 0.9}
    _resnet_layers = ("layer2", "layer3")
    _parameter_constraints = {
        "n_neighbors": [Interval(Integral, 1, None, closed="left")],
        "density_weight": [Interval(Real, 0, None, closed="left")],
        "neighborhood": [Interval(Integral, 1, None, closed="left")],
        "max_patches": [Interval(Integral, 2, None, closed="left"), None],
    }

    def _own_callbacks(self, phase, n_epochs):
        return warm_cosine(n_epochs, warm=0.0)
