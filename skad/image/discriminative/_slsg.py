"""SLSG: a decoder that segments made anomalies, with a graph of places before it."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from numbers import Integral

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from skad._parameters import with_parameters
from skad._sklearn import Interval
from skad._training import from_parameters, warm_cosine
from skad.image._trained import TrainedImageDetector, split_maps
from skad.nn.attention import LargeKernelAttention
from skad.nn.graph import AttentiveGraph
from skad.nn.losses import focal
from skad.nn.pasting import SOURCES, relit, with_anomalies
from skad.nn.residual import from_fine_to_coarse
from skad.nn.statistics import SettledNetwork

# Weights of the focal loss, of the absolute error, and of that of the coarse head.
_FOCAL, _ABSOLUTE, _COARSE = 0.4, 0.6, 0.3
# Most channels of the coarse head, which are handed to the decoder, and of the last
# layers: no more than there are before.
_HANDED, _LAST = 32, (32, 16)
# How much brightness and saturation of normal pictures change.
_LIGHT = 0.1


def convolved(*channels):
    """Return convolutions of 3 x 3 places, each with its norm and activation."""
    layers = []
    for into, out in pairwise(channels):
        convolution = nn.Conv2d(into, out, 3, padding=1)
        layers += [convolution, nn.BatchNorm2d(out), nn.ReLU()]
    return nn.Sequential(*layers)


def brought(x, size):
    """Return maps (b, c, h, w) at a size, whose corners are those of `x`."""
    return F.interpolate(x, size, mode="bilinear", align_corners=True)


class SLSGNetwork(SettledNetwork):
    """A graph of the coarsest map's places, and a decoder that sees the others.

    Parameters
    ----------
    shapes : list of tuple
        (c, h, w) of pictures, then of the maps of each layer.
    describe : callable
        From pictures (b, h, w, c) in 0..1 to maps, a list of (b, c, h, w).
    sources, n_neighbors, dilation
        As for `SLSG`.
    """

    def __init__(self, shapes, describe, sources, n_neighbors, dilation):
        super().__init__()
        self.shapes, self.describe, self.sources = shapes, describe, tuple(sources)
        maps = shapes[1:]
        self.order = from_fine_to_coarse(maps)
        *fine, (c, *grid) = [maps[i] for i in self.order]
        self.graph = AttentiveGraph(c, tuple(grid), n_neighbors, dilation)
        narrow = min(_HANDED, c)
        self.coarse = convolved(c, max(1, c // 2), narrow)
        self.coarse_head = nn.Sequential(
            convolved(narrow, narrow), nn.Conv2d(narrow, 2, 3, padding=1)
        )
        self.attention = nn.ModuleList(LargeKernelAttention(d) for d, *_ in fine)
        self.up, self.join = nn.ModuleList(), nn.ModuleList()
        for i in reversed(range(len(fine))):
            d = fine[i][0]
            # next to the graph, what the coarse head sees is there already
            handed = 0 if i == len(fine) - 1 else narrow
            self.up.append(convolved(c, d))
            self.join.append(convolved(2 * d + handed, d, d))
            c = d
        last = [min(n, c) for n in _LAST]
        self.last = nn.Sequential(
            convolved(c, *last), nn.Conv2d(last[-1], 2, 3, padding=1)
        )

    def both(self, maps):
        """Return the logits (b, h, w) of pixels, and those of the coarse head alone."""
        size = self.shapes[0][1:]
        *fine, x = [maps[i] for i in self.order]
        x = self.graph(x)
        handed = self.coarse(x)
        coarse = brought(self.coarse_head(handed), size)
        fine = [attend(each) for attend, each in zip(self.attention, fine, strict=True)]
        steps = zip(self.up, self.join, reversed(fine), strict=True)
        for i, (up, join, across) in enumerate(steps):
            grid = across.shape[2:]
            parts = [up(brought(x, grid)), across]
            if i:
                parts.append(brought(handed, grid))
            x = join(torch.cat(parts, 1))
        found = self.last(brought(x, size)) + coarse
        # of two classes the difference is the logit
        return found[:, 1] - found[:, 0], coarse[:, 1] - coarse[:, 0]

    def loss(self, x, y):
        """Return the loss of normal pictures and of the same with made anomalies."""
        with torch.no_grad():
            normal = relit(split_maps(x, self.shapes)[0], _LIGHT)
            altered, mask = with_anomalies(normal, self.sources)
            seen = torch.cat([normal, altered])
            maps = [each.to(x) for each in self.describe(seen.movedim(1, 3))]
            mask = torch.cat([torch.zeros_like(mask), mask]).to(x)
        return segmentation_loss(*self.both(maps), mask)

    def finish(self, batches, held=None):
        """Settle the norms; let go of what described pictures, which no file holds."""
        super().finish(batches, held)
        self.describe = None

    def map(self, x):
        """Return the probabilities (b, h, w) that pixels are anomalous."""
        return self.both(split_maps(x, self.shapes)[1:])[0].sigmoid()


def segmentation_loss(logits, coarse, mask):
    """Return the loss of logits (b, h, w) of pixels and of the coarse head, by masks.

    It is .4 of the focal loss, .6 of the mean absolute error of probabilities, and .3
    of that of the coarse head's.
    """
    errors = [(each.sigmoid() - mask).abs().mean() for each in (logits, coarse)]
    return _FOCAL * focal(logits, mask) + _ABSOLUTE * errors[0] + _COARSE * errors[1]


@with_parameters
class SLSG(TrainedImageDetector):
    r"""Pixels that a decoder, trained on made anomalies, takes for such.

    A frozen network gives maps of several layers. The coarsest is a graph of its
    places, each of which sees all others by self-attention and, of those that are
    likest, what it lacks the most (:class:`skad.nn.graph.AttentiveGraph`): whether a
    part is missing, or one too many, is seen from elsewhere in the picture [1]_. The
    others are weighed by what lies around each place, up to four places away. A decoder
    as in a U-Net, and a coarse head on the graph alone that is added to it, give each
    pixel a probability p of being anomalous. Each normal picture is seen twice in
    training, once with a made anomaly M, and

    .. math:: 0.4 \, \overline{(1 - p_M)^4 (-\log p_M)} + 0.6 \, \overline{|p - M|}
        + 0.3 \, \overline{|p_c - M|}

    is made small, with the probability :math:`p_M` of what a pixel is and that of the
    coarse head :math:`p_c`. The map is p, and the score is the mean of its largest
    values.

    Read more in the :ref:`User Guide <image>`.

    Parameters
    ----------
    sources : tuple of {"shuffled", "flipped", "other"}, default=("shuffled",)
        What is pasted of the pictures themselves, each as often: their 4 x 8 cells in
        other places, the picture mirrored, or another picture of the batch. The last
        two are for aligned pictures of things: of a texture, and where a mirrored
        picture is a normal one, they would teach that normal places are anomalous.
    n_neighbors : int, default=9
        Neighbours of a place in the graph.
    dilation : int, default=3
        Every such one of the likest places is a neighbour.
    lr : float, default=0.04
        Learning rate of the first epoch; it falls to none as half a cosine does.
    optimizer : {"adam", "adamw", "sgd", "rmsprop"} or callable, default="sgd"
        The optimizer, or a class with torch's signature; what takes a momentum has 0.9.
    quantile : float, default=0.99847
        Of ``pooling="quantile"``; "top" is the mean of the values above it, 100 of
        256 x 256.
    random_state : int, RandomState instance or None, default=None
        Draws the weights, the batches and the anomalies. Pass an int for reproducible
        results.

    Attributes
    ----------
    net_ : torch.nn.Module
        The trained network, with its `graph`, `attention`, `coarse`, `coarse_head`,
        `up`, `join` and `last`.

    See Also
    --------
    GLASS : Made anomalies of pictures, and of features too.
    SuperSimpleNet : Made anomalies of features.

    Notes
    -----
    The paper speaks of a generative pre-training of the frozen network and of a
    hypersphere that made anomalies narrow. The authors' code has neither: it loads
    weights of such a network where there are any, without what trained them, and trains
    the segmentation that is built here. Their rules for what is pasted, by hand for
    each of the five kinds of MVTec LOCO, are left out; `sources` has what these share.
    Other textures are those of other pictures of the batch, cut into bands that change
    places, where theirs come from a set of textures that would have to be downloaded;
    outlines are not turned, copies are not blurred, and their hue stays.

    As in the code, neighbours in the graph are likelier the farther they lie: it adds
    to a likeness what a Vision GNN adds to a distance. Values of the attention are
    convolved over the grid; the code does so along the places in a row. Its ResNet-18
    goes without the pooling after the first convolution, and without that one's norm,
    so that maps are twice as large, and hands the first convolution's map across too;
    here the backbone is as it was trained. Training is 3,501 steps of four pictures,
    some 40 passes over the pictures of a kind; its figures are those of the step that
    did best on the test pictures, one in a hundred. When the training has ended, batch
    norms take their statistics from all of it. Attention is between all places of the
    coarsest map: its memory grows with the square of their number. Training is in
    float32, scoring in the dtype of `X`.

    With a ResNet-18 up to its third layer, pictures of 64 x 64 pixels and 10 epochs,
    half a minute on one core, the ROC AUC of pictures / of pixels is .99 / .87 on
    cookies (31 normal ones; .99 / .91 with the bank of filters, .95 for the distance to
    the mean picture) and .80 / .77 on magnetic tiles (60 normal ones; .49 for that
    distance). On small drawn textures, which are hardly other ones with their cells in
    other places, it is .70 with the bank of filters, and that distance has .51.

    References
    ----------
    .. [1] M. Yang, J. Liu, Z. Yang and Z. Wu, "SLSG: industrial image anomaly detection
       with improved feature embeddings and one-class classification", Pattern
       Recognition, 2024.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.image import SLSG
    >>> rng = np.random.default_rng(0)
    >>> stripes = 0.5 + 0.2 * np.sin(np.arange(32) / 2)
    >>> good = stripes + rng.normal(0, 0.01, size=(20, 32, 32))
    >>> bad = good[:1].copy()
    >>> bad[0, 8:16, 16:24] = 0.9
    >>> detector = SLSG(layers=["scale2", "scale3"], max_epochs=5, random_state=0)
    >>> detector.fit(good).predict(bad)
    array([-1])
    """

    _resnet_layers = ("layer1", "layer2", "layer3", "layer4")
    _kind = "pixels+maps"
    _optimizer_options = {"momentum": 0.9}
    _parameter_constraints = {
        "sources": [tuple, list],
        "n_neighbors": [Interval(Integral, 1, None, closed="left")],
        "dilation": [Interval(Integral, 1, None, closed="left")],
    }

    sources: Sequence[str] = ("shuffled",)
    n_neighbors: int = 9
    dilation: int = 3
    max_epochs: int = 40
    batch_size: int = 4
    lr: float = 0.04
    weight_decay: float = 3e-5
    optimizer: str | Callable = "sgd"
    smoothing: float = 0.0
    pooling: str = "top"
    quantile: float = 0.99847

    def _own_callbacks(self, phase, n_epochs):
        return warm_cosine(n_epochs, warm=0.0, end=0.0)

    def _check_parameters(self, X):
        super()._check_parameters(X)
        if not self.sources or set(self.sources) - set(SOURCES):
            raise ValueError(
                f"sources={self.sources!r} must be one or more of "
                f"{', '.join(map(repr, SOURCES))}."
            )

    def _network(self, shapes):
        describe = self.embedding_.feature_maps
        return from_parameters(self, SLSGNetwork, shapes, describe)
