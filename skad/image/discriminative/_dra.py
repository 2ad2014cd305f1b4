"""DRA: heads for known anomalies, for made ones, and for what is off the references."""

from collections.abc import Callable
from numbers import Integral, Real

import torch
from torch import nn

from skad._fit_parameters import OutliersMixin
from skad._labels import need_anomalies
from skad._parameters import with_parameters
from skad._sklearn import Interval
from skad._training import clipped, lower_after
from skad.image._tuned import TunedDetector, TunedNetwork
from skad.nn.cut_paste import move_pieces, rectangles
from skad.nn.losses import deviation_loss

# Units between the normality head's pooled features and its score.
_UNITS = 256
# Norm to which gradients are shortened.
_CLIP = 1.0


def top_mean(parts, share):
    """Return the mean (b,) of the largest share of places (b, gh, gw), at least one.

    That is how DevNet scores pictures.
    """
    flat = parts.flatten(1)
    return flat.topk(max(1, int(share * flat.shape[1])), dim=1)[0].mean(1)


def with_pseudo(x, anomalous):
    """Return pictures of which half of the normal ones have a piece of another.

    Also what each is: 0 normal, 1 a known anomaly, 2 with a piece.
    """
    kinds = anomalous.long()
    normal = torch.nonzero(~anomalous).squeeze(1)
    changed = normal[: len(normal) // 2]
    if len(changed):
        own, others = x[changed], x[normal.roll(1)[: len(changed)]]
        seen, _ = move_pieces(own, others, rectangles(own.shape))
        x, kinds = x.clone(), kinds.clone()
        x[changed], kinds[changed] = seen, 2
    return x, kinds


class DRANetwork(TunedNetwork):
    """A backbone and four heads on the maps of its last layer."""

    # no known anomalies are held out
    unwatched_phases = ("fit",)

    def __init__(
        self,
        shapes,
        encoder,
        norms,
        repeat,
        trained_parts,
        margin,
        top,
        n_references,
    ):
        super().__init__(shapes, encoder, norms, repeat, trained_parts)
        self.margin, self.top = margin, top
        with torch.no_grad():
            size = self.maps(torch.zeros(1, *self.picture)).shape[1:]
        c = size[0]
        self.normality = nn.Sequential(
            nn.Linear(c, _UNITS), nn.ReLU(), nn.Linear(_UNITS, 1)
        )
        self.seen, self.pseudo = nn.Conv2d(c, 1, 1), nn.Conv2d(c, 1, 1)
        self.composite = nn.Sequential(
            nn.Conv2d(c, c, 3, padding=1),
            nn.BatchNorm2d(c),
            nn.ReLU(),
            nn.Conv2d(c, 1, 1),
        )
        references = torch.zeros(n_references, *self.picture)
        self.register_buffer("references", references)
        self.register_buffer("reference", torch.zeros(size))

    def begin(self, phase, batches):
        """Keep the first normal pictures as references, again where they are few."""
        found, n = [], len(self.references)
        for x, y in batches():
            found.append(self.pictures(x[y != -1]))
            if sum(map(len, found)) >= n:
                break
        found = torch.cat(found)
        self.references.copy_(found[torch.arange(n) % len(found)])

    def finish(self, batches, held=None):
        """Keep the mean of their maps."""
        self.reference.copy_(self.maps(self.references).mean(0))

    def places(self, maps, reference):
        """Return the sizes (b, gh, gw) that three heads give to places."""
        return (
            self.seen(maps)[:, 0].abs(),
            self.pseudo(maps)[:, 0].abs(),
            self.composite(reference - maps)[:, 0].abs(),
        )

    def normal_score(self, maps):
        """Return how normal the means of maps are, (b,)."""
        return self.normality(maps.mean((2, 3)))[:, 0].abs()

    def loss(self, x, y):
        """Return the sum of the deviation losses of the heads."""
        x, kinds = with_pseudo(self.pictures(x), y == -1)
        maps, reference = self.maps(x), self.maps(self.references).mean(0)
        return self.losses(maps, reference, kinds).sum()

    def losses(self, maps, reference, kinds):
        """Return the loss of each head (4,), of maps of three kinds of pictures."""
        places = self.places(maps, reference)
        seen, pseudo, composite = (top_mean(each, self.top) for each in places)
        real, made = kinds != 2, kinds != 1
        found = [
            deviation_loss(self.normal_score(maps), kinds == 0, self.margin),
            deviation_loss(seen[real], kinds[real] == 1, self.margin),
            deviation_loss(pseudo[made], kinds[made] == 2, self.margin),
            deviation_loss(composite, kinds != 0, self.margin),
        ]
        return torch.stack(found)

    def inspect(self, x):
        """Return the anomaly (b,) and the sum of what heads give to places."""
        maps = self.maps(self.pictures(x))
        places = self.places(maps, self.reference)
        scores = sum(top_mean(each, self.top) for each in places)
        return scores - self.normal_score(maps), sum(places)

    def anomaly(self, x):
        """Return the sum of three heads less the normality, (b,)."""
        return self.inspect(x)[0]

    def map(self, x):
        """Return the sum of what three heads give to places, (b, gh, gw)."""
        return self.inspect(x)[1]


@with_parameters
class DRA(OutliersMixin, TunedDetector):
    r"""Pictures like known anomalies, like made ones, or off some normal pictures.

    On the maps :math:`f(x)` of the last layer of a backbone, which is trained on, four
    heads [1]_ give a score to each picture. Three of them, for known anomalies, for
    made ones and for the difference to the mean :math:`\bar f` of the maps of some
    normal pictures, have a number for each place :math:`p`, and their score is that of
    :class:`skad.supervised.DevNet` on pictures, the mean of the largest tenth of

    .. math:: |w_s \cdot f_p(x) + b_s|, \quad |w_m \cdot f_p(x) + b_m|, \quad
        |w_r \cdot h_p(\bar f - f(x)) + b_r|

    with a layer of convolutions `h`. The fourth, of the mean of all places, is high for
    normal pictures. Training makes the sum of four deviation losses small: a score of
    what a head takes for normal is to be 0, of what it takes for anomalous at least the
    margin. Half of the normal pictures get a piece of another one pasted, and are what
    the second head learns from beside normal ones; the first learns from real ones
    alone. The anomaly is the sum of three heads less the fourth, and the map has the
    sum of the three at each place, before it is interpolated to the pixels and
    smoothed.

    Read more in the :ref:`User Guide <image>`.

    Parameters
    ----------
    margin : float, default=5.0
        The margin of anomalous pictures.
    top : float, default=0.1
        Share of places whose mean is a score, in (0, 1]; one place at least.
    n_references : int, default=5
        Number of normal pictures that others are compared with, the first ones.
    anomaly_share : float, default=1/3
        Share of each batch that is drawn from the known anomalies, with replacement.
    max_epochs : int, default=60
        Passes over the normal training pictures.
    lr : float, default=0.0002
        Learning rate, a tenth after a third of the epochs, and again after two.
    random_state : int, RandomState instance or None, default=None
        Draws heads, batches and pieces. Pass an int for reproducible results.

    Attributes
    ----------
    net_ : torch.nn.Module
        The trained network, with its `encoder`, the heads `normality`, `seen`, `pseudo`
        and `composite`, and the `references`.

    See Also
    --------
    BGAD : Learns from masks of known anomalies.
    skad.supervised.DevNet : One head, for rows too.

    Notes
    -----
    Known anomalies are rows with :math:`y = -1`, or `X_outliers`; a `fit` without any
    is refused. Anomalies of other kinds are found by the other heads, as far as they
    are.

    The authors train all layers of a ResNet-18 on pictures of 448 pixels, with batch
    norms and pictures turned at random; here its last two stages are trained, or
    `trained_parts`, batch norms keep their statistics, and nothing is turned. They draw
    new references for each batch, of the test pictures too, so that a score depends on
    chance; here they are the same ones all along. Pseudo anomalies from other data are
    not built, and neither is their second, smaller scale. An epoch of theirs is 20
    steps.

    It wants a trained network: with a ResNet-18 up to ``layers=["layer3"]``, pictures
    of 64 x 64 pixels, 60 normal magnetic tiles and nine known anomalies of three kinds
    the ROC AUC is .85 after 60 epochs with ``lr=0.0005``, .85 for kinds that are not
    among the known ones too, and .67 for pixels; without training it is .47, and the
    distance to the mean picture has .76. With the bank of filters it is .68. On cookies
    (31 normal, three known) it is .97 and the mean picture has .96.

    References
    ----------
    .. [1] C. Ding, G. Pang and C. Shen, "Catching both gray and black swans: open-set
       supervised anomaly detection", CVPR, 2022, section 3.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.image import DRA
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(0.5, 0.02, size=(24, 32, 32))
    >>> X[:5, 8:16, 8:16] += 0.4
    >>> y = np.repeat([-1, 1], [4, 19])
    >>> detector = DRA(max_epochs=20, lr=0.01, random_state=0).fit(X[1:], y)
    >>> detector.predict(X[:1])
    array([-1])
    """

    margin: float = 5.0
    top: float = 0.1
    n_references: int = 5
    anomaly_share: float = 1 / 3
    batch_size: int = 48
    max_epochs: int = 60
    lr: float = 2e-4
    optimizer: str | Callable = "adam"
    weight_decay: float = 1e-5

    _network_class = DRANetwork
    _uses_labels = True
    _parameter_constraints = {
        "margin": [Interval(Real, 0, None, closed="neither")],
        "top": [Interval(Real, 0, 1, closed="right")],
        "n_references": [Interval(Integral, 1, None, closed="left")],
        "anomaly_share": [Interval(Real, 0, 1, closed="neither")],
    }

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        return tags

    def _anomaly_share(self):
        return self.anomaly_share

    def _own_callbacks(self, phase, n_epochs):
        return *clipped(_CLIP), *lower_after(n_epochs, (1 / 3, 2 / 3), 0.1)

    def _training_labels(self, X, y):
        labels = super()._training_labels(X, y)
        need_anomalies(self, labels)
        return labels
