"""Dinomaly: where a decoder fails to rebuild the blocks of a vision transformer."""

from numbers import Real

import torch
from torch import nn

from skad._parameters import with_parameters
from skad._sklearn import Interval
from skad.image.student._rebuilt_blocks import (
    BlocksDetector,
    RebuiltBlocks,
    whole_distance,
)
from skad.nn.residual import direction_distance
from skad.nn.vit import Block, n_heads_for, perceptron, start_small, with_gradient

# What the gradient at an easy place is multiplied by.
_EASY = 0.1
# Steps in which the share of easy places grows from nothing.
_LOOSENED = 1000


def easy_places(distances, share):
    """Return which places (b, gh, gw) of a batch are below its quantile of a share."""
    flat = distances.flatten()
    n_hard = max(1, int(round(len(flat) * (1 - share), 6)))
    return distances < flat.topk(n_hard).values[-1]


class DinomalyNetwork(RebuiltBlocks):
    """A noisy bottleneck and a decoder of blocks with linear attention."""

    def __init__(self, shapes, n_blocks, dropout, easy_share):
        super().__init__(shapes, "Dinomaly")
        width = self.width
        self.bottleneck = perceptron(width, dropout)
        n_blocks = len(shapes) if n_blocks is None else n_blocks
        heads = n_heads_for(width)
        self.decoder = nn.ModuleList(Block(width, heads) for _ in range(n_blocks))
        self.easy_share = easy_share
        self.register_buffer("n_steps", torch.zeros((), dtype=torch.long))
        start_small(self)

    def rebuilt_maps(self, maps):
        """Return what the decoder's blocks say, (b, d, gh, gw), the last one first."""
        tokens, found = self.bottleneck(self.mean_tokens(maps)), []
        for block in self.decoder:
            tokens = block(tokens)
            found.append(tokens.mT.unflatten(2, self.grid))
        return found[::-1]

    def loss(self, x, y):
        """Return the mean distance of whole maps, which places that are hard teach."""
        done = min(1.0, float(self.n_steps) / _LOOSENED)
        if self.training:
            self.n_steps += 1
        losses = []
        for known, rebuilt in self.pairs(x):
            with torch.no_grad():
                away = direction_distance(known, rebuilt)
                easy = easy_places(away, self.easy_share * done)[:, None]
                share = torch.where(easy, _EASY, 1.0).to(rebuilt)
            losses.append(whole_distance(known, with_gradient(rebuilt, share)).mean())
        return torch.stack(losses).mean()


@with_parameters
class Dinomaly(BlocksDetector):
    r"""Patches that a decoder of a transformer's blocks rebuilds in other directions.

    The middle blocks of a frozen vision transformer describe the patches of a picture.
    Their mean goes through a bottleneck, a perceptron with dropout, and a decoder of as
    many blocks with linear attention, which cannot look at few tokens alone and so not
    copy them. What the decoder's blocks say, the last one first, is to be what the
    transformer's say: not block by block, but the mean of the first half of them,
    :math:`f_1`, and of the second, :math:`f_2` [1]_. With the decoder's :math:`g_1,
    g_2`, whole maps taken as rows, training makes the mean of

    .. math:: 1 - \cos(f_k, g_k)

    small. Its gradient counts a tenth in places that are rebuilt well already, those
    below the quantile `easy_share` of the batch. The anomaly of a patch is the mean
    over k of :math:`1 - \cos` of its own vectors; the map is that, interpolated to the
    pixels of the picture and smoothed, and the score is the mean of its largest
    hundredth.

    Read more in the :ref:`User Guide <image>`.

    Parameters
    ----------
    dropout : float, default=0.2
        Share of the numbers of the bottleneck's layers that a step leaves out.
    easy_share : float, default=0.9
        Share of places that are easy; it grows to that in the first 1,000 steps.
    random_state : int, RandomState instance or None, default=None
        Draws the weights, the batches and what is left out. Pass an int for
        reproducible results.

    Attributes
    ----------
    net_ : torch.nn.Module
        The trained network, with its `bottleneck` and `decoder`.

    See Also
    --------
    ReverseDistillation : Rebuilds the layers of a convolutional network.
    skad.embedding.ViTEmbedding : The transformer's blocks, as `embedding`.

    Notes
    -----
    The paper's is ``Dinomaly(embedding=ViTEmbedding(model, layers=range(2, 10),
    norm=False, image_size=392))`` with a DINOv2 with registers, ViT-B/14, and 10,000
    steps of 16 pictures: 800 epochs of 200 pictures. It is built on any layers of one
    width, and a network that is no transformer has the quality of that.

    With the third stage of a ResNet-18 in its place, at 128 pixels, 80 epochs of 80
    magnetic tiles, 320 steps in 45 s, reach areas under the ROC curve of pictures / of
    pixels of 0.843 / 0.713, `PatchCore` 0.903 / 0.768
    (``benchmarks/results/images_training.tsv``). On a DINOv2 it was not measured here.

    Departures: pictures are not cropped, class and register tokens do not pass the
    decoder, steps are AdamW's with clipped gradients (0.1), where the authors' code
    bounds each tensor's step as well and warms the rate up over 100 steps, and maps are
    smoothed by a whole Gaussian, where theirs has five pixels of it.

    The blocks of the training pictures are computed once and kept, where they fit in
    scikit-learn's ``working_memory``. Training is in float32, scoring in the dtype of
    `X`.

    References
    ----------
    .. [1] J. Guo, S. Lu, W. Zhang, F. Chen, H. Li and H. Liao, "Dinomaly: the less is
       more philosophy in multi-class unsupervised anomaly detection", CVPR, 2025.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.image import Dinomaly
    >>> rng = np.random.default_rng(0)
    >>> stripes = 0.5 + 0.2 * np.sin(np.arange(32) / 2)
    >>> good = stripes + rng.normal(0, 0.01, size=(20, 32, 32))
    >>> bad = good[:1].copy()
    >>> bad[0, 8:16, 16:24] = 0.9
    >>> detector = Dinomaly(max_epochs=10, smoothing=1, random_state=0).fit(good)
    >>> detector.predict(bad)
    array([-1])
    """

    _network_class = DinomalyNetwork
    _parameter_constraints = {
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "easy_share": [Interval(Real, 0, 1, closed="left")],
    }

    dropout: float = 0.2
    easy_share: float = 0.9
    lr: float = 2e-3
