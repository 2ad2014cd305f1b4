"""REPEN: codes for the distance to the nearest of few random rows."""

from collections.abc import Sequence
from numbers import Integral, Real

import torch

from skad._fit_parameters import OutliersMixin
from skad._parameters import with_parameters
from skad._sklearn import Interval
from skad._training import ShapedDetector
from skad.nn.architecture import build
from skad.nn.network import FromMeanNetwork

# Deviations above the mean from which on a sample may be an outlier: by Cantelli's
# inequality at most a quarter of any distribution is beyond.
_DEVIATIONS = 3**0.5
# So many samples are where none is beyond, though at most half of them.
_FEWEST = 10
# Share of a batch that is drawn from known anomalies, where there are any.
_KNOWN_SHARE = 0.1


def nearest_distances(points, subsamples):
    """Return the mean distance (b,) of points (b, d) to the nearest of each subsample.

    `subsamples` (m, s, d) are `m` sets of `s` points: LeSiNN's anomaly.
    """
    # without products of matrices, whose error depends on the rows of the block
    mode = "donot_use_mm_for_euclid_dist"
    away = torch.cdist(points, subsamples.flatten(0, 1), compute_mode=mode)
    return away.reshape(len(points), *subsamples.shape[:2]).amin(2).mean(1)


def outlier_cut(scores):
    """Return the score above which samples are candidates for outliers."""
    cut = scores.mean() + _DEVIATIONS * scores.std(correction=0)
    if cut < scores.max():
        return cut
    n = min(_FEWEST, len(scores) // 2)
    return scores.sort(descending=True).values[n]


def draw_triplets(scores, cut, known):
    """Return the places (t,) of anchors, of positives and of negatives in a batch.

    Anchors are inliers with the sum of the inliers' scores less their own as weights,
    positives other inliers, negatives candidates with their scores as weights, and
    every second one a known anomaly where there are any. There are as many triplets as
    samples, or none where two inliers or a negative are missing.

    Parameters
    ----------
    scores : tensor of shape (b,)
        The samples' first anomalies.
    cut : tensor of one number
        As `outlier_cut` returned it.
    known : tensor of shape (b,), bool
        Which samples are known anomalies.
    """
    inliers = torch.nonzero(~known & (scores <= cut))[:, 0]
    outliers = torch.nonzero(~known & (scores > cut))[:, 0]
    known = torch.nonzero(known)[:, 0]
    m, t = len(inliers), len(scores)
    if m < 2 or not len(outliers) + len(known):
        return (inliers[:0],) * 3
    weights = scores[inliers].sum() - scores[inliers]
    anchors = _drawn(weights, t)
    others = (anchors + torch.randint(1, m, (t,), device=scores.device)) % m
    if len(outliers):
        negatives = outliers[_drawn(scores[outliers], t)]
    if len(known):
        those = known[torch.randint(len(known), (t,), device=scores.device)]
        negatives = those if not len(outliers) else negatives
        negatives[::2] = those[::2]
    return inliers[anchors], inliers[others], negatives


def _drawn(weights, t):
    """Return `t` places, drawn with weights; alike where all weights are zero."""
    if not weights.sum() > 0:
        weights = torch.ones_like(weights)
    return torch.multinomial(weights, t, replacement=True)


def ranking_loss(anchors, positives, negatives, margin):
    """Return the mean hinge loss of squared distances between codes (t, d)."""
    near = (anchors - positives).square().sum(1)
    far = (anchors - negatives).square().sum(1)
    return (margin + near - far).relu().mean()


class REPENNetwork(FromMeanNetwork):
    """An encoder, and random samples among which the nearest is sought."""

    # what it would watch is drawn, of the few held-out samples that are candidates
    unwatched_phases = ("fit",)

    def __init__(
        self,
        shape,
        code_size,
        architecture,
        hidden_sizes,
        margin,
        n_subsamples,
        subsample_size,
    ):
        super().__init__(shape)
        self.encoder = build(architecture, shape, (code_size,), hidden_sizes, units=())
        self.margin = margin
        sets = n_subsamples, subsample_size
        self.register_buffer("drawn", torch.zeros(*sets, *shape))
        self.register_buffer("drawn_codes", torch.zeros(*sets, code_size))
        self.register_buffer("cut", torch.zeros(()))

    def codes(self, x):
        """Return the codes (b, code_size), none below zero."""
        return self.encoder(x).relu()

    def first_scores(self, x):
        """Return the anomaly (b,) of samples as they are, without codes."""
        return nearest_distances(x.flatten(1), self.drawn.flatten(2))

    def begin(self, phase, batches):
        """Draw the subsamples, and find out which scores those of outliers may be."""
        places = []
        for i, (x, y) in enumerate(batches()):
            others = torch.arange(len(x), device=x.device)
            others = others if y is None else others[y != -1]
            places.append(torch.stack([torch.full_like(others, i), others], 1))
        places = torch.cat(places)
        m, s = self.drawn.shape[:2]
        # of few samples half, repeated: others are to be away from each
        turn = torch.arange(s) % max(1, len(places) // 2)
        sets = [torch.randperm(len(places))[turn] for _ in range(m)]
        chosen = places[torch.stack(sets).flatten().to(places.device)]  # (m s, 2)
        flat = self.drawn.flatten(0, 1)
        for i, (x, _) in enumerate(batches()):
            own = chosen[:, 0] == i
            flat[own] = x[chosen[own, 1]]
        self.drawn.copy_(flat.reshape(self.drawn.shape))
        scores = [
            self.first_scores(x if y is None else x[y != -1]) for x, y in batches()
        ]
        self.cut.copy_(outlier_cut(torch.cat(scores)))

    def loss(self, x, y):
        """Return the ranking loss of triplets that are drawn from the batch."""
        with torch.no_grad():
            scores = self.first_scores(x)
            known = torch.zeros_like(scores, dtype=torch.bool) if y is None else y == -1
            places = draw_triplets(scores, self.cut, known)
        codes = self.codes(x)
        if not len(places[0]):
            return 0 * codes.sum()
        return ranking_loss(*(codes[own] for own in places), self.margin)

    def finish(self, batches, held=None):
        """Keep the mean sample, and the codes of the subsamples."""
        super().finish(batches, held)
        codes = self.codes(self.drawn.flatten(0, 1))
        self.drawn_codes.copy_(codes.reshape(self.drawn_codes.shape))

    def anomaly(self, x):
        """Return the mean distance to the nearest code of each subsample."""
        return nearest_distances(self.codes(x), self.drawn_codes)


@with_parameters
class REPEN(OutliersMixin, ShapedDetector):
    r"""Samples whose codes lie far from those of few random samples.

    An encoder :math:`\phi` is trained for one detector, the mean distance to the
    nearest sample of each of `m` random subsamples :math:`S_j` (LeSiNN),

    .. math:: a(x) = \frac{1}{m} \sum_j \min_{z \in S_j} \|\phi(x) - \phi(z)\|.

    That detector first scores the samples themselves. Those more than
    :math:`\sqrt 3` standard deviations above the mean, or else the ten highest, are
    candidates for outliers. From triplets of an inlier :math:`x`, another one
    :math:`x^+` and a candidate :math:`x^-`, drawn with weights by those scores,
    training makes the mean of

    .. math:: \max(0, c + \|\phi(x) - \phi(x^+)\|^2 - \|\phi(x) - \phi(x^-)\|^2)

    small. Known anomalies, -1 in `y` or `X_outliers`, are every second :math:`x^-`.
    The map is the integrated gradients of :math:`a` on the way from the mean sample
    that is no known anomaly: their sum is the anomaly less that of the mean, up to the
    error of the quadrature.

    Read more in the :ref:`User Guide <neighbors>`.

    Parameters
    ----------
    code_size : int, default=20
        Length of the code, which has no negative values.
    margin : float, default=1000.0
        The margin `c`.
    n_subsamples : int, default=50
        Number `m` of subsamples.
    subsample_size : int, default=8
        Samples of a subsample, at most half of the training samples.
    hidden_sizes : tuple of int or None, default=None
        Units or channels of the layers before the code; None is none for linear layers.

    Attributes
    ----------
    net_ : torch.nn.Module
        The trained network, with its `encoder` and the subsamples, `drawn`.

    See Also
    --------
    KNN : ``KNN(1, max_samples=8)`` is one subsample, without codes.
    skad.supervised.DevNet : Needs known anomalies.

    Notes
    -----
    Features should be on one scale (StandardScaler). The subsamples are kept, and the
    same ones score samples and codes; they hold no known anomaly. The authors' code
    draws others from all training samples for the codes, that of DeepOD from the
    samples to score, whose scores then depend on each other. Triplets are drawn within
    a batch, in which a tenth are known anomalies where there are any; the authors'
    draw from all samples, 1,500 batches of 256, and take Adadelta.

    What is learned rarely pays on tables without labels. After up to 250 normal rows
    of ten tables others got a mean ROC AUC of .81, .88 by the norm of their
    standardised rows. Over 25 sources (KEEL), after normal rows,
    others got a mean ROC AUC of .69, .73 by LeSiNN of the features themselves and .73
    with the codes before training; with anomalies among the training rows .69, .73 and
    .72, though an average precision of .26, .24 and .22. On nine other tables up to
    ten known anomalies raised .81 to .87, and the average precision .56 to .62; LeSiNN
    of the features got .88 and .58, :class:`~skad.supervised.DevNet` .83 and .67.

    References
    ----------
    .. [1] G. Pang, L. Cao, L. Chen and H. Liu, "Learning representations of
       ultrahigh-dimensional data for random distance-based outlier detection", KDD,
       2018.
    .. [2] G. Pang, K. M. Ting and D. Albrecht, "LeSiNN: detecting anomalies by
       identifying least similar nearest neighbours", ICDM workshops, 2015.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.neighbors import REPEN
    >>> X = np.random.default_rng(0).normal(size=(200, 2))
    >>> detector = REPEN(max_epochs=20, random_state=0).fit(X)
    >>> detector.predict([[0.0, 0.0], [6.0, 6.0]])
    array([ 1, -1])
    """

    code_size: int = 20
    margin: float = 1000.0
    n_subsamples: int = 50
    subsample_size: int = 8
    hidden_sizes: Sequence[int] | None = None
    max_epochs: int | str = "auto"
    batch_size: int = 256

    _network_class = REPENNetwork
    _uses_labels = True
    _exports = False  # its map takes gradients
    _parameter_constraints = {
        "code_size": [Interval(Integral, 1, None, closed="left")],
        "margin": [Interval(Real, 0, None, closed="neither")],
        "n_subsamples": [Interval(Integral, 1, None, closed="left")],
        "subsample_size": [Interval(Integral, 1, None, closed="left")],
    }

    def _anomaly_share(self):
        return _KNOWN_SHARE
