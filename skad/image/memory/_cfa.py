"""CFA: features brought close to the mean features of places, and the rest far."""

from collections.abc import Callable
from numbers import Integral, Real

import torch
from sklearn.cluster import KMeans
from torch import nn

from skad._parameters import with_parameters
from skad._sklearn import Interval
from skad.image._trained import TrainedImageDetector, split_maps
from skad.image.memory._search import nearest
from skad.nn.network import Network

# The paper's nu, which divides both losses.
_NU = 1e-3


def hinges(squares, radius, n_neighbors, margin):
    """Return the attraction and the repulsion of patches, both without 1 / nu.

    Parameters
    ----------
    squares : tensor of shape (n, k)
        Squared distances to the nearest centres, in ascending order.
    radius : tensor
        Within which the first `n_neighbors` are to be, and the others not.
    n_neighbors : int
        How many attract.
    margin : float
        Of the others.
    """
    near, far = squares[:, :n_neighbors], squares[:, n_neighbors:]
    attraction = (near - radius.square()).relu().mean()
    if not far.shape[1]:
        return attraction, torch.zeros_like(attraction)
    return attraction, (radius.square() - far - margin).relu().mean()


def softmin_nearest(distances):
    """Return the nearest distance times its softmin, of (..., k) in ascending order."""
    return distances[..., 0] * (-distances).softmax(-1)[..., 0]


class CFANetwork(Network):
    """A linear layer that is told the place, and centres that it had at first."""

    def __init__(
        self,
        shapes,
        n_neighbors,
        n_repelled,
        margin,
        radius,
        feature_reduction,
        center_reduction,
    ):
        super().__init__()
        self.shapes = shapes
        height, width, d = shapes[0]
        m = max(1, height * width // center_reduction)
        self.adaptor = nn.Linear(d + 2, max(1, d // feature_reduction))
        self.radius = nn.Parameter(torch.tensor(float(radius)))
        axes = torch.linspace(-1, 1, height), torch.linspace(-1, 1, width)
        places = torch.stack(torch.meshgrid(*axes, indexing="ij"), 2)
        self.register_buffer("places", places)  # (gh, gw, 2)
        self.register_buffer("centers", torch.zeros(m, self.adaptor.out_features))
        self.n_neighbors, self.margin = min(n_neighbors, m), margin
        self.n_repelled = min(n_repelled, m - self.n_neighbors)

    def adapted(self, x):
        """Return the adapted features of patches, (b, gh, gw, d)."""
        (features,) = split_maps(x, self.shapes)
        places = self.places.expand(x.shape[0], -1, -1, -1)
        return self.adaptor(torch.cat([features, places], 3))

    def near(self, features, k):
        """Return distances (..., k) of features (..., d) to centres, and their rows."""
        queries, squares = features.flatten(0, -2), self.centers.square().sum(1)
        found = nearest(queries, self.centers, squares, k=k)
        return tuple(each.unflatten(0, features.shape[:-1]) for each in found)

    def begin(self, phase, batches):
        """Fix the centres before the first step, as the paper does: they never move."""
        if self.centers.any():  # of a training before this one
            return
        n, total = 0, 0.0
        for x, _ in batches():
            total = total + self.adapted(x).sum(0)
            n += len(x)
        means = (total / n).flatten(0, 1)  # (gh gw, d)
        if len(self.centers) < len(means):
            seed = int(torch.randint(2**31 - 1, ()))
            rows = means.double().cpu().numpy()
            model = KMeans(
                len(self.centers), max_iter=3000, n_init=1, random_state=seed
            )
            means = torch.from_numpy(model.fit(rows).cluster_centers_)
        self.centers.copy_(means)

    def loss(self, x, y):
        """Return the attraction and the repulsion of a batch."""
        features = self.adapted(x).flatten(0, 2)
        with torch.no_grad():
            _, rows = self.near(features, self.n_neighbors + self.n_repelled)
        squares = (features[:, None] - self.centers[rows]).square().sum(2)
        return sum(hinges(squares, self.radius, self.n_neighbors, self.margin)) / _NU

    def map(self, x):
        """Return how far patches are from their nearest centres, (b, gh, gw)."""
        return softmin_nearest(self.near(self.adapted(x), self.n_neighbors)[0])


@with_parameters
class CFA(TrainedImageDetector):
    r"""Patches whose adapted features are far from what places have in the mean.

    A frozen network describes each patch of a picture by features of its middle layers,
    averaged over the surroundings. A linear layer :math:`\phi` gets them and the place,
    two coordinates in -1..1. The centres :math:`c` are the means over the training
    pictures of what :math:`\phi` makes of each place before it is trained, and stay as
    they are: the memory does not grow with the pictures. With
    :math:`d_1 \le d_2 \le \dots` the distances of :math:`\phi` to the centres,
    wherever they are from, training brings patches within a radius :math:`r` of their
    :math:`K` nearest, and keeps the next :math:`J` outside of it [1]_:

    .. math:: \mathrm{mean}_{k \le K} \max(0, d_k^2 - r^2)
        + \mathrm{mean}_{K < j \le K + J} \max(0, r^2 - d_j^2 - \alpha).

    The anomaly of a patch is the distance to its nearest centre, times the softmin of
    that among the nearest,

    .. math:: d_1 \frac{\exp(-d_1)}{\sum_{k \le K} \exp(-d_k)}.

    The map is that anomaly, interpolated to the pixels of the picture and smoothed, and
    the score is its maximum.

    Read more in the :ref:`User Guide <image>`.

    Parameters
    ----------
    n_neighbors : int, default=3
        :math:`K`; with 1 the anomaly is :math:`d_1`. All centres where there are fewer.
    n_repelled : int, default=3
        :math:`J`, the hard negatives of the paper; 0 is none. The rest of the centres
        where there are fewer than :math:`K + J`.
    margin : float, default=0.1
        :math:`\alpha`.
    radius : float, default=1e-05
        :math:`r` before the training, which learns it.
    feature_reduction : int, default=1
        :math:`\gamma_d`: how many times fewer features :math:`\phi` makes of those that
        it gets.
    center_reduction : int, default=1
        :math:`\gamma_c`: how many times fewer centres than places there are, by
        k-means of the means.
    neighborhood : int, default=3
        Places, in both directions, over which features are averaged; odd.
    optimizer : {"adam", "adamw", "sgd", "rmsprop"} or callable, default="adamw"
        The optimizer, or a class with torch's signature; with ``amsgrad`` where it has
        that.
    random_state : int, RandomState instance or None, default=None
        Draws the weights, which the centres depend on, and the batches. Pass an int for
        reproducible results.

    Attributes
    ----------
    net_ : torch.nn.Module
        The trained network, with its `adaptor`, `centers` (n_centers, n_features) and
        `radius`.

    See Also
    --------
    PatchCore : The same features as they are, compared with a memory of single patches.
    PaDiM : A Gaussian for each place, to which no other place's patch is compared.

    Notes
    -----
    The losses are those of the authors' code, of squared distances, and both are
    divided by its :math:`\nu = 10^{-3}`, on which Adam's steps hardly depend. The
    centres are the code's too: the paper has k-means of the first picture's patches,
    averaged with the nearest patches of picture after picture. Departures from the
    code: the map does not depend on other pictures, where the authors bring all that
    are scored to 0..1; the weights are those of the last epoch, where their figures are
    those of the epoch that does best on the test pictures; the last pictures of an
    epoch make a smaller batch and are not left out; the means are exact, whatever the
    batches are. Their CFA++ is the better of two sizes of the pictures, chosen on the
    test pictures: it is not built.

    The radius grows as it is learned, and the first loss falls to nothing by that too:
    pictures of magnetic tiles are ordered after 30 epochs as they are after 10, a
    little worse than by PatchCore (``benchmarks/results/images_training.tsv``).

    The threshold is as rough as held-out pictures are few: after one epoch on 80 tiles,
    of which 15 set it, it flagged .10 of other training pictures and .08 of good ones
    of the test, which lie no further out (ROC AUC .45 between the two); thresholds
    from 16 others flagged .05 of the rest in the mean, mostly between 0 and .11.

    Scoring a picture costs O(p m d) beside the backbone for p patches, m centres and d
    features. A step holds the K + J differences of each patch of the batch. Another
    `fit` with `warm_start` keeps the centres. Training is in float32, scoring in the
    dtype of `X`.

    References
    ----------
    .. [1] S. Lee, S. Lee and B. C. Song, "CFA: coupled-hypersphere-based feature
       adaptation for target-oriented anomaly localization", IEEE Access, 2022.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.image import CFA
    >>> rng = np.random.default_rng(0)
    >>> stripes = 0.5 + 0.2 * np.sin(np.arange(32) / 2)
    >>> good = stripes + rng.normal(0, 0.01, size=(20, 32, 32))
    >>> bad = good[:1].copy()
    >>> bad[0, 8:16, 16:24] = 0.9
    >>> detector = CFA(max_epochs=5, smoothing=1, random_state=0).fit(good)
    >>> detector.predict(bad)
    array([-1])
    >>> row, column = np.unravel_index(detector.transform(bad)[0].argmax(), (32, 32))
    >>> bool(6 <= row <= 17 and 14 <= column <= 25)
    True
    """

    _network_class = CFANetwork
    _optimizer_options = {"amsgrad": True}
    _parameter_constraints = {
        "n_neighbors": [Interval(Integral, 1, None, closed="left")],
        "n_repelled": [Interval(Integral, 0, None, closed="left")],
        "margin": [Interval(Real, 0, None, closed="left")],
        "radius": [Interval(Real, 0, None, closed="neither")],
        "feature_reduction": [Interval(Integral, 1, None, closed="left")],
        "center_reduction": [Interval(Integral, 1, None, closed="left")],
        "neighborhood": [Interval(Integral, 1, None, closed="left")],
    }

    n_neighbors: int = 3
    n_repelled: int = 3
    margin: float = 0.1
    radius: float = 1e-5
    feature_reduction: int = 1
    center_reduction: int = 1
    neighborhood: int = 3
    max_epochs: int = 30
    batch_size: int = 4
    lr: float = 1e-3
    optimizer: str | Callable = "adamw"
    weight_decay: float = 5e-4

    def _layers(self, x):
        return [self.embedding_.embed(x)]

    def _graph(self, x):
        # the search is in blocks, whose number a model cannot have
        network = self.net_
        features, centers = network.adapted(self._describe(x)), network.centers
        table = centers.square().sum(1) - 2 * features @ centers.T  # (b, gh, gw, m)
        rows = table.topk(network.n_neighbors, largest=False).indices
        away = (features[..., None, :] - centers[rows]).square().sum(-1).sqrt()
        patches = softmin_nearest(away.sort(-1).values)
        return self._pool(patches), self._upsampled(patches)
