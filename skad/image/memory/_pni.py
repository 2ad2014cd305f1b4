"""PNI: patches far from those that are likely at their place and in their context."""

from numbers import Integral, Real

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from skad._parameters import with_parameters
from skad._sklearn import Interval
from skad._training import lower_after
from skad.image._trained import TrainedImageDetector, split_maps
from skad.image.memory._coreset import core_set
from skad.image.memory._search import nearest
from skad.nn.network import Network
from skad.nn.residual import Norm


class Context(nn.Conv2d):
    """A linear layer of what lies around each place, without the place itself."""

    def __init__(self, into, out, size):
        super().__init__(into, out, size, padding=size // 2)
        around = torch.ones(size, size)
        around[size // 2, size // 2] = 0
        self.register_buffer("around", around, persistent=False)

    def forward(self, x):
        """Return (b, out, h, w) of (b, into, h, w)."""
        return F.conv2d(x, self.weight * self.around, self.bias, padding=self.padding)


def position_histogram(rows, n_rows, size):
    """Return the shares (gh, gw, m) of the `n_rows` in windows around places.

    Of the rows (n, gh, gw) that places of pictures have; windows have an odd side
    `size` and end at the border.
    """
    height, width = rows.shape[1:]
    places = torch.arange(height * width, device=rows.device)
    cells = rows.flatten(1) * len(places) + places
    counts = torch.bincount(cells.flatten(), minlength=n_rows * len(places)).float()
    counts = counts.reshape(n_rows, height, width)
    sums = F.avg_pool2d(counts, size, 1, size // 2, divisor_override=1)
    return (sums / sums.sum(0)).movedim(0, -1)


def likely(probabilities, least):
    """Return which of (q, m) reach `least`; the most probable ones always do."""
    most = probabilities.amax(1, keepdim=True)
    return probabilities >= most.clamp(max=least)


def nearest_row(features, bank):
    """Return the row (b, gh, gw) of a bank that is nearest to each patch."""
    _, rows = nearest(features.flatten(0, 2), bank, bank.square().sum(1))
    return rows[:, 0].reshape(features.shape[:3])


class PNINetwork(Network):
    """A classifier of patches by what is around them, a bank, and its positions."""

    def __init__(
        self,
        shapes,
        n_codes,
        context_size,
        n_layers,
        hidden_size,
        dropout,
        temperature,
        min_probability,
        coreset_ratio,
    ):
        super().__init__()
        self.shapes, self.size, self.ratio = shapes, context_size, coreset_ratio
        self.temperature, self.min_probability = temperature, min_probability
        height, width, d = shapes[0]
        layers, into = [Context(d, hidden_size, context_size)], hidden_size
        for _ in range(n_layers - 2):
            layers += [Norm(into), nn.ReLU(), nn.Dropout(dropout)]
            layers += [nn.Conv2d(into, hidden_size, 1)]
        layers += [Norm(into), nn.ReLU(), nn.Dropout(dropout)]
        self.classifier = nn.Sequential(*layers, nn.Conv2d(into, n_codes, 1))
        self.register_buffer("codes", torch.zeros(n_codes, d))
        self.register_buffer("is_code", torch.zeros(n_codes, dtype=torch.bool))
        self.register_buffer("bank", torch.zeros(0, d), persistent=False)
        code_of, positions = torch.zeros(0).long(), torch.zeros(height, width, 0)
        self.register_buffer("code_of", code_of, persistent=False)
        self.register_buffer("positions", positions, persistent=False)

    def features(self, x):
        """Return the features of patches, (b, gh, gw, d)."""
        return split_maps(x, self.shapes)[0]

    def core(self, batches):
        """Return a core-set of the training patches, thinned in parts."""
        parts = (self.features(x).flatten(0, 2) for x, _ in batches())
        return core_set(parts, self.ratio)

    def code(self, features):
        """Return the nearest code (b, gh, gw) of features (b, gh, gw, d)."""
        return nearest_row(features, self.codes[self.is_code])

    def logits(self, features):
        """Return what the classifier says of the codes of patches, (b, k, gh, gw)."""
        found = self.classifier(features.movedim(-1, 1))
        return found.masked_fill(~self.is_code[:, None, None], -torch.inf)

    def begin(self, phase, batches):
        """Fix the codes, of which the classifier learns: a core-set of a core-set."""
        if self.is_code.any():  # of a training before this one
            return
        bank = self.core(batches)
        codes = core_set([bank], min(1.0, len(self.codes) / len(bank)))
        self.codes[: len(codes)], self.is_code[: len(codes)] = codes, True

    def loss(self, x, y):
        """Return the cross-entropy of the codes of patches by what is around them."""
        features = self.features(x)
        with torch.no_grad():
            codes = self.code(features)
        return F.cross_entropy(self.logits(features), codes)

    def finish(self, batches, held=None):
        """Fill the bank, and count where its rows are nearest."""
        self.bank = self.core(batches)
        self.code_of = self.code(self.bank[None, None])[0, 0]
        rows = [nearest_row(self.features(x), self.bank) for x, _ in batches()]
        shares = position_histogram(torch.cat(rows), len(self.bank), self.size)
        self.positions = shares.to(self.bank)

    def both(self, x):
        """Return distances (b, gh, gw) to what context, and to what position allows."""
        features = self.features(x)
        queries, squares = features.flatten(0, 2), self.bank.square().sum(1)
        least = self.min_probability / len(self.bank)
        logits = self.logits(features).movedim(1, -1).flatten(0, 2)
        by_code = (logits / self.temperature).softmax(1)
        by_place = self.positions.flatten(0, 1)

        places = torch.arange(len(queries), device=queries.device) % len(by_place)

        def distance(allowed):
            found, _ = nearest(queries, self.bank, squares, allowed=allowed)
            return found[:, 0].reshape(features.shape[:3])

        return (
            distance(lambda part: likely(by_code[part][:, self.code_of], least)),
            distance(lambda part: likely(by_place[places[part]], least)),
        )

    def map(self, x):
        """Return the mean (b, gh, gw) of both distances."""
        return sum(self.both(x)) / 2


@with_parameters
class PNI(TrainedImageDetector):
    r"""Patches unlike those normal ones that are likely where they are.

    A frozen network describes each patch :math:`x` of a picture by features of its
    middle layers, averaged over the surroundings. A core-set :math:`\mathcal{M}` of m
    normal patches is kept, and of these a patch is compared with those that are likely,
    by two conditions [1]_. By what is around it, :math:`N(x)`, without the patch
    itself: a network is trained to tell from that which of `n_codes` codes, a smaller
    core-set, is nearest to the patch, and the probability :math:`p(c \mid N(x))` of a
    row c of the bank is that of its nearest code, with the logits divided by
    `temperature`. By where it is: :math:`p(c \mid x)` is how often c was the nearest
    row in a window around that place of the training pictures. The anomaly is the mean
    of both distances,

    .. math:: \tfrac12 \min_{c :\, p(c \mid N(x)) \ge \gamma / m} \lVert x - c \rVert
        + \tfrac12 \min_{c :\, p(c \mid x) \ge \gamma / m} \lVert x - c \rVert.

    The map is that, interpolated to the pixels of the picture and smoothed, and the
    score is its maximum.

    Read more in the :ref:`User Guide <image>`.

    Parameters
    ----------
    n_codes : int, default=2048
        Codes that the network tells apart; the whole bank where that has fewer rows.
    context_size : int, default=9
        Places, in both directions, of :math:`N(x)` and of the window in which positions
        are counted; odd, at least 3.
    n_layers : int, default=10
        Layers of the network, at least 2.
    hidden_size : int, default=2048
        Width of its layers but the last.
    dropout : float, default=0.5
        Share of the values behind each layer that are left out in training.
    temperature : float, default=2.0
        What logits are divided by.
    min_probability : float, default=0.5
        :math:`\gamma`. The most probable rows are always allowed; with 0 all are, and
        the anomaly is that of `PatchCore`.
    coreset_ratio : float, default=0.01
        Share of the training patches that the bank keeps.
    neighborhood : int, default=5
        Places, in both directions, over which features are averaged; odd.
    random_state : int, RandomState instance or None, default=None
        Draws weights, batches, and the first patch of core-sets. Pass an int for
        reproducible results.

    Attributes
    ----------
    net_ : torch.nn.Module
        The trained network, with its `classifier`, the `bank` (n_patches, n_features)
        and the probabilities `positions` (grid_height, grid_width, n_patches).

    See Also
    --------
    PatchCore : Compares with all patches of the bank.
    FAPM : A bank for each place.

    Notes
    -----
    Pictures should be aligned, and the window small beside the grid: the paper has 60 x
    60 places of 480 pixels, and training with its defaults is a GPU's work.

    The authors' code keeps the patch itself in :math:`N(x)` and leaves out its right
    neighbour, by a slip; its mask by context is in another order than the distances.
    Other departures: where no row has :math:`\gamma / m`, theirs takes the farthest;
    their anomaly is an affine function of the distance; their codes are the first rows
    of the bank, here a core-set of another core-set; a step takes all patches of
    `batch_size` pictures, and not 2,048 of all; patches at the border are like others;
    the last epoch's weights are kept unless `patience` is given. The second network,
    which refines maps by the pixels, and the ensemble are left out.

    With 3 layers of 64 units, ``context_size=3``, ``neighborhood=3``, 10 % of the
    patches and a ResNet-18 cookies of 64 x 64 pixels are told with a ROC AUC of .94,
    their pixels with .89, magnetic tiles with .83 and .72, after a few CPU seconds;
    PatchCore, which holds no pictures out, has .94 and .90, .87 and .75. Of good
    pictures .14 are flagged, by few that were held out. At the paper's
    :math:`\gamma` context changes the distance of no patch there and position that of
    .01: an untrained network does as well, also on drawn textures (.90). With
    ``min_probability=5`` cookies, which lie alike, have .97, tiles .75. PNI is for
    normal patches in wrong places. Training is in float32, scoring in that of `X`.

    References
    ----------
    .. [1] J. Bae, J.-H. Lee and S. Kim, "PNI: industrial anomaly detection using
       position and neighborhood information", ICCV, 2023, section 3.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.image import PNI
    >>> rng = np.random.default_rng(0)
    >>> stripes = 0.5 + 0.2 * np.sin(np.arange(32) / 2)
    >>> good = stripes + rng.normal(0, 0.01, size=(20, 32, 32))
    >>> bad = good[:1].copy()
    >>> bad[0, 8:16, 16:24] = 0.9
    >>> detector = PNI(
    ...     n_layers=3, hidden_size=32, max_epochs=3, smoothing=1, random_state=0
    ... ).fit(good)
    >>> detector.predict(bad)
    array([-1])
    >>> row, column = np.unravel_index(detector.transform(bad)[0].argmax(), (32, 32))
    >>> bool(6 <= row <= 17 and 14 <= column <= 25)
    True
    """

    _network_class = PNINetwork
    _exports = False  # the search is in blocks, whose number a model cannot have
    _resnet_layers = ("layer2", "layer3")
    _parameter_constraints = {
        "n_codes": [Interval(Integral, 1, None, closed="left")],
        "context_size": [Interval(Integral, 3, None, closed="left")],
        "n_layers": [Interval(Integral, 2, None, closed="left")],
        "hidden_size": [Interval(Integral, 1, None, closed="left")],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "temperature": [Interval(Real, 0, None, closed="neither")],
        "min_probability": [Interval(Real, 0, None, closed="left")],
        "coreset_ratio": [Interval(Real, 0, 1, closed="right")],
        "neighborhood": [Interval(Integral, 1, None, closed="left")],
    }

    n_codes: int = 2048
    context_size: int = 9
    n_layers: int = 10
    hidden_size: int = 2048
    dropout: float = 0.5
    temperature: float = 2.0
    min_probability: float = 0.5
    coreset_ratio: float = 0.01
    neighborhood: int = 5
    max_epochs: int = 15
    lr: float = 1e-3

    def _check_parameters(self, X):
        super()._check_parameters(X)
        if self.context_size % 2 == 0:
            raise ValueError(f"context_size={self.context_size} must be odd.")

    def _layers(self, x):
        return [self.embedding_.embed(x)]

    def _own_callbacks(self, phase, n_epochs):
        return lower_after(n_epochs, (1 / 3, 2 / 3), 0.1)
