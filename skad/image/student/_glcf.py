"""GLCF: where places and the whole picture are rebuilt otherwise."""

from collections.abc import Callable
from numbers import Integral, Real

import torch
from torch import nn

from skad._parameters import with_parameters
from skad._sklearn import Interval
from skad._training import lower_after
from skad.image._trained import split_maps
from skad.image.student._calibrated import CalibratedDetector, CalibratedMaps
from skad.image.student._rebuilt_blocks import whole_distance
from skad.image.student._reverse_distillation import Decoder, RebuildingDetector
from skad.nn.distillation import MapCalibration
from skad.nn.flow import codes_of_places
from skad.nn.residual import (
    direction_distance,
    from_fine_to_coarse,
    initialize,
    stacked,
)
from skad.nn.statistics import SettledNetwork
from skad.nn.vit import Block, SelfAttention

# Share of the epochs after which the rate falls to a tenth.
_HIGH = 0.6


class SemanticBottleneck(nn.Module):
    """From a map to two of its shape: by all of its places, or by one token of all.

    Parameters
    ----------
    shape : tuple of int
        (c, h, w) of maps.
    token_size, n_heads, depth
        As for `GLCF`.
    """

    def __init__(self, shape, token_size, n_heads, depth):
        super().__init__()
        c, *self.grid = shape

        def blocks():
            each = (Block(token_size, n_heads, SelfAttention) for _ in range(depth))
            return nn.Sequential(*each)

        self.embed, self.over = nn.Linear(c, token_size), nn.Linear(*2 * (token_size,))
        codes = codes_of_places(token_size, *self.grid)
        self.register_buffer("places", codes.flatten(1).T[None])
        self.whole = nn.Parameter(torch.zeros(1, 1, token_size))
        self.asked = nn.Parameter(torch.zeros(1, 1, token_size))
        self.encoder, self.by_place, self.by_whole = (blocks() for _ in range(3))
        self.norm, self.last_norm = (nn.LayerNorm(token_size) for _ in range(2))
        self.last = nn.Linear(token_size, c)
        for part in self.modules():
            if isinstance(part, nn.Linear):
                nn.init.xavier_uniform_(part.weight)
                nn.init.zeros_(part.bias)

    def latent(self, x):
        """Return the tokens of places (b, t, d), and that of the picture (b, 1, d)."""
        tokens = self.embed(x.flatten(2).mT) + self.places
        whole = self.whole.expand(x.shape[0], -1, -1)
        tokens = self.norm(self.encoder(torch.cat([tokens, whole], 1)))
        return self.over(tokens).tensor_split((-1,), dim=1)

    def maps(self, tokens, whole):
        """Return the maps (b, c, h, w) by the tokens of places, and by that of all."""
        asked = (self.asked + self.places).expand(whole.shape[0], -1, -1)
        by_whole = self.by_whole(torch.cat([whole, asked], 1))[:, 1:]
        return [
            self.last(self.last_norm(each)).mT.unflatten(2, self.grid)
            for each in (self.by_place(tokens), by_whole)
        ]

    def forward(self, x):
        """Return both maps (b, c, h, w) of maps of that shape."""
        return self.maps(*self.latent(x))


class GLCFNetwork(CalibratedMaps, SettledNetwork):
    """A bottleneck over the deepest map, and three decoders that rebuild the others."""

    def __init__(
        self,
        shapes,
        size,
        n_blocks,
        widen,
        signed,
        token_size,
        n_heads,
        depth,
        logical_weight,
    ):
        super().__init__()
        self.shapes, self.size = shapes, size
        *self.targets, self.deepest = from_fine_to_coarse(shapes)
        self.targets = self.targets or [self.deepest]
        deepest, targets = shapes[self.deepest], [shapes[i] for i in self.targets]

        def decoder():
            return initialize(Decoder(targets, deepest, n_blocks, widen, signed))

        self.bottleneck = SemanticBottleneck(deepest, token_size, n_heads, depth)
        self.local, self.whole, self.whole_of_local = (decoder() for _ in range(3))
        self.logical_weight = logical_weight
        self.calibration = MapCalibration(2 * len(targets), "standard")

    def rebuilt_maps(self, x):
        """Return the teacher's maps and those of the three decoders, four lists."""
        maps = split_maps(x, self.shapes)
        by_place, by_whole = self.bottleneck(maps[self.deepest])
        return (
            [maps[i] for i in self.targets],
            self.local(by_place),
            self.whole(by_whole),
            self.whole_of_local(by_place),
        )

    def loss(self, x, y):
        """Return the distances of whole maps, summed over layers and three pairs."""
        taught, local, whole, again = self.rebuilt_maps(x)
        pairs = (taught, local), (taught, whole), (whole, again)
        return sum(
            whole_distance(*layer).mean()
            for pair in pairs
            for layer in zip(*pair, strict=True)
        )

    def finish(self, batches, held=None):
        """Settle the norms, and bring all maps to one scale by held-out pictures."""
        super().finish(batches, held)
        self.calibration.learn(self.raw_maps(x) for x, _ in (held or batches)())

    def raw_maps(self, x):
        """Return the maps of all layers, the structural ones first, (2 l, b, h, w)."""
        taught, local, whole, again = self.rebuilt_maps(x)
        pairs = [*zip(taught, local, strict=True), *zip(whole, again, strict=True)]
        return stacked([direction_distance(*pair) for pair in pairs], self.size)

    def joined(self, maps):
        """Return the weighted sum of the means over layers, (b, h, w)."""
        structural, logical = maps.unflatten(0, (2, -1)).mean(1)
        return structural + self.logical_weight * logical


@with_parameters
class GLCF(CalibratedDetector, RebuildingDetector):
    r"""Places that are rebuilt badly, or otherwise than the whole picture has them.

    The teacher is a frozen network that gives maps :math:`f^k` of several layers. What
    it says last goes through a transformer, in which one more token takes part: that of
    the whole picture. One decoder :math:`L` rebuilds the other maps from the tokens of
    the places, a second one :math:`G` from the token of the picture alone, and a third
    one :math:`R` learns to say from the tokens of the places what :math:`G` says [1]_.
    Whole maps taken as rows, training makes the sum over layers of

    .. math:: (1 - \cos(f^k, L^k)) + (1 - \cos(f^k, G^k)) + (1 - \cos(G^k, R^k))

    small. A place has two anomalies in each layer, with the cosines of its own vectors,

    .. math:: S^k = 1 - \cos(f^k, L^k), \qquad C^k = 1 - \cos(G^k, R^k),

    of what looks wrong and of what does not belong to the picture. Each is interpolated
    to the pixels and brought to mean 0 and deviation 1 over all places of held-out
    normal pictures; the map is the mean of the :math:`S^k` plus `logical_weight` times
    that of the :math:`C^k`, smoothed, and the score is its maximum.

    Read more in the :ref:`User Guide <image>`.

    Parameters
    ----------
    token_size : int, default=480
        Numbers of a token, and so of what is known of the whole picture.
    n_heads : int, default=12
        Heads of the attention, which divide `token_size`.
    depth : int, default=6
        Blocks of the transformer before the tokens part, and of each half after it.
    logical_weight : float, default=1.0
        Weight of what does not belong to the picture.
    n_blocks : int, default=2
        Residual blocks of each stage of the decoders, where the backbone is none of our
        ResNets.
    layers : tuple of str or None, default=None
        Names of the layers. That of the smallest map is what the transformer sees, the
        others are rebuilt; a single one is both. None is all four of a ResNet, and all
        of the bank of filters.
    image_size : int, tuple of int or None, default=None
        Size to which pictures are brought, 224 in the paper; None leaves them.
    lr : float, default=0.0001
        Learning rate; a tenth of it after three fifths of the epochs.
    validation_fraction : float, default=0.2
        Share of the normal pictures that are held out of the training, at least 5 of 12
        or more: they bring all maps to one scale, whatever `contamination` is, and set
        the threshold for "auto".

    Attributes
    ----------
    embedding_ : PatchEmbedding
        The teacher: what describes the patches.
    net_ : torch.nn.Module
        The trained network, with its `bottleneck` and the decoders `local`, `whole` and
        `whole_of_local`.

    See Also
    --------
    ReverseDistillation : One decoder, and a bottleneck of convolutions.
    GCAD : The same idea with networks that see pixels.

    Notes
    -----
    The architecture is that of the authors' code: the token of the picture has no
    place, the second half of the transformer has it and a token for each place that
    knows where it is and nothing else, and both halves end in the same layer.

    Departures from that code: it leaves the teacher to the optimizer, which may change
    it, and here it is frozen; each of its blocks adds what it gets a second time, and
    its second halves have 16 heads; maps are brought to one scale by the mean over
    training pictures of their means and deviations, and layers and both anomalies have
    weights that were set by hand for each set of pictures, where here all layers count
    alike; its score of a picture is the deviation of the map, and maps are not smoothed
    in its tests. Of the teacher's maps it embeds three and uses the last, as is done
    here.

    Pictures of 48 x 48 with a black disc somewhere in the left half and a grey one in
    the right: where they are swapped, every patch is normal. After 80 epochs of 100
    such pictures in 22 CPU seconds, with small networks on the bank of filters, the
    largest :math:`C` tells them with a ROC AUC of .98, the largest :math:`S`, whose
    transformer sees the whole picture as well, with .97, and their sum with .99. Two
    black discs have .88, .69 and .86. With 20 epochs on finer layers :math:`C` has .53.

    31 cookies at 64 x 64 with the first three layers of a ResNet-18, tokens of 96
    numbers and ``depth=2, batch_size=4, lr=1e-3``: 46 others are told with .92, and
    pixels with .85, after 10 epochs in 8 CPU seconds, with .98 and .93 after 40;
    PatchCore has .95 for pictures at that size, the distance to the mean picture too.
    80 magnetic tiles, 15 epochs of batches of 8 in 21 CPU seconds, have .78 and .65:
    there the :math:`C` of both layers, .27 and .45, know nothing, and .15 of new good
    ones are flagged. Of 14 new good cookies 4 are after 3 epochs on the bank of
    filters, which the 31 before them do not stand for.

    Gradients of all terms reach what they can, and the teacher's maps of the training
    pictures are computed once and kept, where they fit in scikit-learn's
    ``working_memory``. Batch norms of the decoders take their statistics from all
    training pictures at the end, as in :class:`STFPM`.

    Where fewer than 12 pictures are normal, none are held out: then training pictures
    bring the maps to one scale, on which all are small. Training is in float32, scoring
    in the dtype of `X`.

    References
    ----------
    .. [1] H. Yao, W. Yu, W. Luo, Z. Qiang, D. Luo and X. Zhang, "Learning global-local
       correspondence with semantic bottleneck for logical anomaly detection", IEEE
       Transactions on Circuits and Systems for Video Technology, 2024.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.image import GLCF
    >>> rng = np.random.default_rng(0)
    >>> stripes = 0.5 + 0.2 * np.sin(np.arange(32) / 2)
    >>> good = stripes + rng.normal(0, 0.01, size=(20, 32, 32))
    >>> bad = good[:1].copy()
    >>> bad[0, 8:16, 16:24] = 0.9
    >>> detector = GLCF(
    ...     layers=("scale2", "scale3"),
    ...     token_size=16,
    ...     n_heads=2,
    ...     depth=1,
    ...     n_blocks=1,
    ...     max_epochs=10,
    ...     lr=0.003,
    ...     smoothing=1,
    ...     random_state=0,
    ... ).fit(good)
    >>> detector.predict(bad)
    array([-1])
    >>> row, column = np.unravel_index(detector.transform(bad)[0].argmax(), (32, 32))
    >>> bool(4 <= row <= 19 and 12 <= column <= 27)
    True
    """

    _resnet_layers = ("layer1", "layer2", "layer3", "layer4")
    _optimizer_options = {"betas": (0.9, 0.95)}
    _costly = ("image_size", "token_size", "depth")
    _parameter_constraints = {
        "token_size": [Interval(Integral, 1, None, closed="left")],
        "n_heads": [Interval(Integral, 1, None, closed="left")],
        "depth": [Interval(Integral, 1, None, closed="left")],
        "logical_weight": [Interval(Real, 0, None, closed="left")],
    }

    token_size: int = 480
    n_heads: int = 12
    depth: int = 6
    logical_weight: float = 1.0
    batch_size: int = 8
    max_epochs: int = 500
    lr: float = 1e-4
    weight_decay: float = 0.01
    optimizer: str | Callable = "adamw"

    def _check_parameters(self, X):
        super()._check_parameters(X)
        if self.token_size % self.n_heads:
            raise ValueError(
                f"n_heads={self.n_heads} does not divide token_size={self.token_size}."
            )

    def _own_callbacks(self, phase, n_epochs):
        return lower_after(n_epochs, (_HIGH,), 0.1)

    def _network(self, shapes):
        _, size, n_blocks, widen, signed = self._sizes(shapes)
        n_rebuilt = max(1, len(shapes) - 1)
        return GLCFNetwork(
            shapes,
            size,
            n_blocks[:n_rebuilt],
            widen,
            signed,
            self.token_size,
            self.n_heads,
            self.depth,
            self.logical_weight,
        )
