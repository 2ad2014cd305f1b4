"""ReConPatch: features in which patches that are alike come together, and a bank."""

import copy
from numbers import Integral, Real

import torch
from torch import nn

from skad._parameters import with_parameters
from skad._sklearn import Interval
from skad.image._trained import TrainedImageDetector, split_maps
from skad.image.memory._coreset import core_set
from skad.image.memory._search import nearest
from skad.nn.network import Network


def squared_distances(codes):
    """Return the squared distances (n, n) of codes (n, d)."""
    codes = codes - codes.detach().mean(0)  # less is lost to rounding
    squares = codes.square().sum(1)
    return (squares[:, None] + squares - 2 * codes @ codes.T).clamp(min=0)


def contextual_similarity(distances, k):
    r"""Return how far the neighbourhoods of rows agree, (n, n) in 0..1, symmetric.

    With N(i) the rows no farther from i than its k-th nearest, itself being the first,
    :math:`s_{ij} = |N(i) \cap N(j)| / |N(i)|` for j in N(i), else 0. That is averaged
    over the rows that are among the k / 2 nearest of each other, and both ways.

    Parameters
    ----------
    distances : tensor of shape (n, n)
        Of rows, zero on the diagonal.
    k : int
        Neighbours; all rows where there are fewer.
    """

    def around(k):
        k = max(1, min(k, len(distances)))
        return (distances <= distances.kthvalue(k, 1, keepdim=True).values).to(
            distances.dtype
        )

    near, close = around(k), around(k // 2)
    shared = near @ near.T / near.sum(1, keepdim=True) * near
    mutual = close * close.T
    found = mutual @ shared / mutual.sum(1, keepdim=True)
    return (found + found.T) / 2


def relaxed_contrast(codes, w):
    r"""Return the relaxed contrastive loss of codes (n, d), alike by w (n, n).

    .. math:: \frac1n \sum_{i,j} w_{ij} \delta_{ij}^2
        + (1 - w_{ij}) \max(0, 1 - \delta_{ij})^2,

    where distances :math:`\delta` are divided by the mean of their row.
    """
    # the gradient of a root has no bound at zero, where rows are the same
    away = squared_distances(codes).clamp(min=1e-12).sqrt()
    delta = away / away.mean(1, keepdim=True)
    apart = (1 - delta).relu()
    return (w * delta.square() + (1 - w) * apart.square()).sum() / len(codes)


class ReConPatchNetwork(Network):
    """A linear layer of patches' features, trained by a second, and a bank."""

    def __init__(
        self,
        shapes,
        code_size,
        projection_size,
        step_size,
        n_neighbors,
        pair_weight,
        bandwidth,
        momentum,
        coreset_ratio,
    ):
        super().__init__()
        self.shapes, self.step_size, self.ratio = shapes, step_size, coreset_ratio
        self.n_neighbors, self.pair_weight = n_neighbors, pair_weight
        self.bandwidth, self.momentum = bandwidth, momentum
        self.adaptor = nn.Linear(shapes[0][2], code_size)
        self.projection = nn.Linear(code_size, projection_size)
        for layer in (self.adaptor, self.projection):
            nn.init.orthogonal_(layer.weight)  # as far as it goes, it keeps distances
            nn.init.zeros_(layer.bias)
        self.targets = copy.deepcopy(nn.Sequential(self.adaptor, self.projection))
        self.register_buffer("bank", torch.zeros(0, code_size), persistent=False)

    def groups(self, phase):
        """Return the two layers; those of the targets follow them."""
        return {"all": [*self.adaptor.parameters(), *self.projection.parameters()]}

    def features(self, x):
        """Return the features of patches, (b, gh, gw, d)."""
        return split_maps(x, self.shapes)[0]

    def similarity(self, patches):
        """Return how alike patches (n, d) are to be, (n, n) in 0..1, equation (5)."""
        with torch.no_grad():
            codes = self.targets(patches)
            away = squared_distances(codes).fill_diagonal_(0)
            mean = away.mean().clamp(min=1e-12)
            pairs = (-away / (self.bandwidth * mean)).exp()
            context = contextual_similarity(away, self.n_neighbors)
            return self.pair_weight * pairs + (1 - self.pair_weight) * context

    def contrast(self, patches):
        """Return the loss of patches (n, d)."""
        codes = self.projection(self.adaptor(patches))
        return relaxed_contrast(codes, self.similarity(patches))

    def updates(self, phase, x, y):
        """Yield the losses of batches of patches; the targets follow after each."""
        patches = self.features(x).flatten(0, 2)
        order = torch.randperm(len(patches), device=patches.device)
        for part in order.split(self.step_size):
            yield "all", self.contrast(patches[part])
            self._follow()

    @torch.no_grad()
    def _follow(self):
        online = [*self.adaptor.parameters(), *self.projection.parameters()]
        for own, new in zip(self.targets.parameters(), online, strict=True):
            own.lerp_(new, 1 - self.momentum)

    def watched(self, phase, x, y):
        """Return the mean loss over batches of patches that are as they come."""
        parts = self.features(x).flatten(0, 2).split(self.step_size)
        return sum(self.contrast(part) for part in parts) / len(parts)

    def finish(self, batches, held=None):
        """Fill the bank with a core-set of the training patches, thinned in parts."""
        parts = (self.adaptor(self.features(x)).flatten(0, 2) for x, _ in batches())
        self.bank = core_set(parts, self.ratio)

    def map(self, x):
        """Return the distances of patches to the bank, (b, gh, gw)."""
        codes = self.adaptor(self.features(x))
        found, _ = nearest(codes.flatten(0, 2), self.bank, self.bank.square().sum(1))
        return found[:, 0].reshape(codes.shape[:3])


@with_parameters
class ReConPatch(TrainedImageDetector):
    r"""Patches far from normal ones in features that were made for normal pictures.

    A frozen network describes each patch of a picture by features of its middle layers,
    averaged over the surroundings. A linear layer f makes codes of them, in which
    patches that are alike come together and others do not: with a second linear layer g
    behind it, whose outputs have the distances :math:`\delta_{ij}`, divided by the mean
    from i, training minimises over batches of n patches [1]_

    .. math:: \frac1n \sum_{i,j} w_{ij} \delta_{ij}^2
        + (1 - w_{ij}) \max(0, 1 - \delta_{ij})^2, \qquad
        w_{ij} = \alpha \exp\left(-\frac{\|z_i - z_j\|^2}{\sigma m}\right)
        + (1 - \alpha) c_{ij}.

    How alike they are, nobody says: :math:`z` is what slow copies of f and g make of
    the patches, m the mean of the squared distances in the batch, and c how far the k
    nearest of i and of j are the same. The bank holds
    a core-set of the codes of the training patches. The anomaly of a patch is the
    distance of its code to the nearest in the bank. The map is that, interpolated to
    the pixels of the picture and smoothed, and the score is its maximum.

    Read more in the :ref:`User Guide <image>`.

    Parameters
    ----------
    code_size : int, default=512
        Length of the codes that f makes.
    projection_size : int, default=128
        Length of what g makes of them, which is used in training only.
    step_size : int, default=256
        Patches n of a training step, out of `batch_size` pictures.
    n_neighbors : int, default=5
        k, a patch itself being the first.
    pair_weight : float, default=0.5
        :math:`\alpha`.
    bandwidth : float, default=1.0
        :math:`\sigma`.
    momentum : float, default=0.9
        How much of the slow copies stays at each step; 1 keeps them as they are.
    coreset_ratio : float, default=0.01
        Share of the patches that the bank keeps.
    neighborhood : int, default=3
        Places, in both directions, over which features are averaged; odd.
    random_state : int, RandomState instance or None, default=None
        Draws weights, batches, and the first patch of the core-set. Pass an int for
        reproducible results.

    Attributes
    ----------
    net_ : torch.nn.Module
        The trained network, with its `adaptor` f and the `bank` (n_patches, code_size).

    See Also
    --------
    PatchCore : The same features as they are.
    CFA : Trains one linear layer too, towards the mean of places.

    Notes
    -----
    The score of a picture is the maximum of its smoothed map, as for
    :class:`PatchCore`; the paper has the farthest patch with PatchCore's factor. It
    also has no m: then the features of a small network are all alike, and training
    draws them together. f and g begin orthogonal, so that without training it is
    PatchCore on the same features where codes are as long. The authors have published
    no code, and what they train, and how long, was not to be had. The best figures of
    the paper are of several networks together. Codes of training patches beyond a
    quarter of scikit-learn's ``working_memory`` are thinned out part by part.

    Little is gained here: with a ResNet-18, 31 cookies at 64 x 64 train it in 11 CPU
    seconds, and 46 others are told with a ROC AUC of .97, as without training. On 80
    magnetic tiles it is .84 without and .83 after 3 epochs at ten times the rate,
    which after 10 is down to .79; PatchCore with as large a bank has .95 and .83. The
    default `lr` is the smallest of four that were looked at on these two.
    Drawn textures are told by the bank of filters with .75, and without training .76.

    A step costs O(n^2 d), scoring a picture O(p m d) beside the backbone, for p patches
    and m in the bank. Training is in float32, scoring in the dtype of `X`.

    References
    ----------
    .. [1] J. Hyun, S. Kim, G. Jeon, S. H. Kim, K. Bae and B. J. Kang, "ReConPatch:
       contrastive patch representation learning for industrial anomaly detection",
       WACV, 2024, section 3.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.image import ReConPatch
    >>> rng = np.random.default_rng(0)
    >>> stripes = 0.5 + 0.2 * np.sin(np.arange(32) / 2)
    >>> good = stripes + rng.normal(0, 0.01, size=(20, 32, 32))
    >>> bad = good[:1].copy()
    >>> bad[0, 8:16, 16:24] = 0.9
    >>> detector = ReConPatch(
    ...     code_size=32, max_epochs=1, smoothing=1, random_state=0
    ... ).fit(good)
    >>> detector.predict(bad)
    array([-1])
    >>> row, column = np.unravel_index(detector.transform(bad)[0].argmax(), (32, 32))
    >>> bool(6 <= row <= 17 and 14 <= column <= 25)
    True
    """

    _network_class = ReConPatchNetwork
    _resnet_layers = ("layer2", "layer3")
    _parameter_constraints = {
        "code_size": [Interval(Integral, 1, None, closed="left")],
        "projection_size": [Interval(Integral, 1, None, closed="left")],
        "step_size": [Interval(Integral, 2, None, closed="left")],
        "n_neighbors": [Interval(Integral, 1, None, closed="left")],
        "pair_weight": [Interval(Real, 0, 1, closed="both")],
        "bandwidth": [Interval(Real, 0, None, closed="neither")],
        "momentum": [Interval(Real, 0, 1, closed="both")],
        "coreset_ratio": [Interval(Real, 0, 1, closed="right")],
        "neighborhood": [Interval(Integral, 1, None, closed="left")],
    }

    code_size: int = 512
    projection_size: int = 128
    step_size: int = 256
    n_neighbors: int = 5
    pair_weight: float = 0.5
    bandwidth: float = 1.0
    momentum: float = 0.9
    coreset_ratio: float = 0.01
    neighborhood: int = 3
    max_epochs: int = 10
    lr: float = 1e-5

    def _layers(self, x):
        return [self.embedding_.embed(x)]

    def _graph(self, x):
        # the search is in blocks, whose number a model cannot have
        network = self.net_
        codes, bank = network.adaptor(network.features(self._describe(x))), network.bank
        rows = (bank.square().sum(1) - 2 * codes @ bank.T).argmin(-1)
        patches = (codes - bank[rows]).square().sum(-1).sqrt()
        return self._pool(patches), self._upsampled(patches)
