"""RotNet: turns and shifts of a picture, each told by a head of its own."""

from collections.abc import Callable

import torch
from torch.nn import functional

from skad._parameters import with_parameters
from skad._training import warm_cosine
from skad.nn.pixel_moves import PixelMoves, distinct, regular
from skad.self_supervised._detector import REDUCTIONS
from skad.self_supervised._geometric import (
    MovedPixelsDetector,
    MovedPixelsNetwork,
    spread,
)

# Which columns of what `regular` returns have heads: turn, shift down, to the right.
_HEADED = (3, 1, 2)


class RotNetNetwork(MovedPixelsNetwork):
    """A network with one head for the turn, and one for the shift along each axis."""

    def __init__(self, shape, measure, architecture, hidden_sizes, shift):
        found = regular(shape[1:], shift, flips=(False,), edge_twice=False)
        tables, kinds = distinct(shape, *found)
        counts = (kinds.amax(0) + 1).tolist()
        heads = [i for i in _HEADED if counts[i] > 1]
        self.counts = [counts[i] for i in heads]
        moves = PixelMoves(shape, tables)
        n = sum(self.counts)
        super().__init__(shape, moves, measure, architecture, hidden_sizes, n)
        self.register_buffer("kinds", kinds[:, heads])  # (K, heads)
        shifts = (3 * kinds[:, 1] + kinds[:, 2]).unique(return_inverse=True)[1]
        self.register_buffer("shifts", shifts)  # (K,)

    def log_probabilities(self, transformed):
        """Return those of all heads, one behind the other, (b, k, n)."""
        logits = self.classifier(transformed.flatten(0, 1))
        parts = [
            functional.log_softmax(each, 1) for each in logits.split(self.counts, 1)
        ]
        return torch.cat(parts, 1).unflatten(0, transformed.shape[:2])

    def over_heads(self, measure, evidence, which):
        """Return what some maps add to a measure, the mean over the heads."""
        parts = zip(evidence.split(self.counts, 2), self.kinds[which].T, strict=True)
        found = [REDUCTIONS[measure](each, kind) for each, kind in parts]
        return sum(found) / len(found)

    def reduce(self, evidence, which):
        """Return what some maps add to the anomaly (b,)."""
        return self.over_heads(self.measure, evidence, which)

    def loss(self, x, y):
        """Return the mean cross-entropy of the heads: of one shift, and all turns.

        Pictures are flipped at random. Those that are held out go through all maps.
        """
        if not self.training:
            parts = self.parts(x)
            found = sum(self.over_heads("log_probability", *part) for part in parts)
            return found.mean() / len(self.transforms)
        flipped = (torch.rand(len(x)) < 0.5).to(x.device).view(-1, 1, 1, 1)
        x = torch.where(flipped, x.flip(3), x)
        drawn = spread(int(self.shifts.max()) + 1, len(x), x.device)
        picture, which = (drawn[:, None] == self.shifts).nonzero().T
        logits = self.classifier(self.transforms.each(x[picture], which))
        parts = zip(logits.split(self.counts, 1), self.kinds[which].T, strict=True)
        return sum(functional.cross_entropy(*part) for part in parts) / len(self.counts)


@with_parameters
class RotNet(MovedPixelsDetector):
    r"""Pictures of which a network cannot tell how they were turned and shifted.

    Each training picture is shifted by nothing or both ways down, the same to the side,
    and turned by quarters, in all K = 36 combinations. A network with three heads is
    trained to tell the turn, the shift down and that to the side [1]_. With the
    probabilities :math:`p_{ih}(x)` that head h states of what was really done in
    combination i, the anomaly is

    .. math:: a(x) = \frac{1}{3K} \sum_i \sum_h \big(1 - p_{ih}(x)\big),

    or another `measure`, averaged over the heads. The map is its integrated gradients
    on the way from the mean training picture: their sum is the anomaly less that of the
    mean, up to the error of the quadrature.

    Read more in the :ref:`User Guide <self_supervised>`.

    Parameters
    ----------
    shift : float, default=0.25
        By how much pictures are shifted, as a share of their side, in [0, 1), at least
        one pixel; with 0 there are turns alone, and one head.
    max_epochs : int or "auto", default=100
        Passes over the training pictures, with one shift and all turns of each.
    lr : float, default=0.1
        Learning rate, which falls to zero as half a cosine does.

    Attributes
    ----------
    net_ : torch.nn.Module
        The trained network, with its `transforms` and `classifier`.

    See Also
    --------
    GEOM : All combinations are told apart from each other.

    Notes
    -----
    A picture of which some turns are the same, such as a ring, is not told from others
    by them. Pictures that are not square have half turns alone; a head that has one
    answer only, as pictures are small, is left out. In training, pictures are flipped
    at random. The authors' anomaly is minus the sum of the probabilities, which orders
    pictures in the same way.

    Without a GPU take a narrow network, which does not do much: of 300 pictures of a
    class of Fashion-MNIST, ``hidden_sizes=(8, 16, 32, 64)`` learns in 10 epochs enough
    for a ROC AUC of .89 against other classes, mean of two, and the distance to the
    mean picture has .89 there as well.

    The authors train a ResNet-18 with attention on pictures of 224 pixels for 100
    epochs, in each of which all nine shifts of a picture are seen; here it is one,
    which is drawn. They flip pictures at random when they score them, too, which is
    left out. This is their one-class method; their second one, for a classifier, is not
    built.

    References
    ----------
    .. [1] D. Hendrycks, M. Mazeika, S. Kadavath and D. Song, "Using self-supervised
       learning can improve model robustness and uncertainty", NeurIPS, 2019, section 4.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.self_supervised import RotNet
    >>> X = np.random.default_rng(0).uniform(size=(30, 8, 8)) * np.arange(8) / 8
    >>> detector = RotNet(hidden_sizes=(4, 8), max_epochs=2, random_state=0).fit(X)
    >>> detector.transform(X[:2]).shape
    (2, 8, 8)
    """

    shift: float = 0.25
    measure: str = "probability"
    max_epochs: int | str = 100
    batch_size: int = 64
    lr: float = 0.1
    optimizer: str | Callable = "sgd"
    weight_decay: float = 5e-4

    _network_class = RotNetNetwork
    _optimizer_options = {"momentum": 0.9, "nesterov": True}

    def _own_callbacks(self, phase, n_epochs):
        return warm_cosine(n_epochs, warm=0, end=1e-5)
