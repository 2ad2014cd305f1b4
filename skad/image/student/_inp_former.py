"""INP-Former: patches that prototypes of the picture itself do not rebuild."""

from numbers import Integral, Real

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from skad._parameters import with_parameters
from skad._sklearn import Interval
from skad.image.student._rebuilt_blocks import (
    BlocksDetector,
    RebuiltBlocks,
    whole_distance,
)
from skad.nn.residual import direction_distance
from skad.nn.vit import n_heads_for, perceptron, start_small, with_gradient


def mining(distances, power):
    """Return what gradients are multiplied by: distances over their mean, to a power.

    `distances` (b, gh, gw) are those of a batch; where there are none it is one.
    """
    mean = distances.mean()
    if mean <= torch.finfo(mean.dtype).eps:
        return torch.ones_like(distances)
    return (distances / mean).clamp(min=0).pow(power)


def to_prototypes(tokens, prototypes):
    """Return one minus the largest cosine of tokens (b, t, d) to prototypes, (b, t)."""
    cosines = F.normalize(tokens, dim=2) @ F.normalize(prototypes, dim=2).mT
    return 1 - cosines.amax(2)


def in_heads(parts, n_heads):
    """Return tensors (b, t, d) as those of the heads, (b, heads, t, d / heads)."""
    return [each.unflatten(2, (n_heads, -1)).transpose(1, 2) for each in parts]


class Prototypes(nn.Module):
    """Learned queries that gather what is normal in the tokens of a picture.

    Parameters
    ----------
    width, n_heads : int
        Numbers of a token, and heads of the attention.
    n_prototypes : int
        How many there are.
    """

    def __init__(self, width, n_heads, n_prototypes):
        super().__init__()
        self.n_heads = n_heads
        self.start = nn.Parameter(torch.randn(1, n_prototypes, width))
        self.norms = nn.ModuleList(nn.LayerNorm(width, eps=1e-8) for _ in range(3))
        self.query, self.out = nn.Linear(width, width), nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.mlp = perceptron(width)

    def forward(self, tokens):
        """Return the prototypes (b, m, d) of pictures with tokens (b, t, d)."""
        start = self.start.expand(tokens.shape[0], -1, -1)
        key_value = self.key_value(self.norms[1](tokens)).chunk(2, 2)
        parts = self.query(self.norms[0](start)), *key_value
        q, k, v = in_heads(parts, self.n_heads)
        found = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        found = start + self.out(found)
        return found + self.mlp(self.norms[2](found))


class PrototypeBlock(nn.Module):
    """A block whose tokens are made of prototypes alone: nothing goes around it.

    Attention has no softmax: the weights are cosines of queries and keys, times a
    learned number of the head, where they are positive.
    """

    def __init__(self, width, n_heads):
        super().__init__()
        self.n_heads = n_heads
        self.norms = nn.ModuleList(nn.LayerNorm(width, eps=1e-8) for _ in range(3))
        self.query, self.out = nn.Linear(width, width), nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.scale = nn.Parameter(torch.ones(n_heads, 1, 1))
        self.mlp = perceptron(width)

    def attended(self, tokens, prototypes):
        """Return what tokens (b, t, d) take of prototypes (b, m, d), (b, heads, t, .).

        Before the last linear layer.
        """
        key_value = self.key_value(self.norms[1](prototypes)).chunk(2, 2)
        parts = self.query(self.norms[0](tokens)), *key_value
        q, k, v = in_heads(parts, self.n_heads)
        cosines = F.normalize(q, dim=3) @ F.normalize(k, dim=3).mT  # (b, heads, t, m)
        return (self.scale * cosines).relu() @ v

    def forward(self, tokens, prototypes):
        """Return the tokens (b, t, d)."""
        found = self.attended(tokens, prototypes)
        found = self.out(found.transpose(1, 2).flatten(2))
        return found + self.mlp(self.norms[2](found))


class INPFormerNetwork(RebuiltBlocks):
    """Prototypes of a picture, a bottleneck and a decoder that sees prototypes only."""

    def __init__(self, shapes, n_prototypes, n_blocks, mining_power, coherence):
        super().__init__(shapes, "INPFormer")
        width, heads = self.width, n_heads_for(self.width)
        self.prototypes = Prototypes(width, heads, n_prototypes)
        self.bottleneck = perceptron(width)
        n_blocks = len(shapes) if n_blocks is None else n_blocks
        self.decoder = nn.ModuleList(
            PrototypeBlock(width, heads) for _ in range(n_blocks)
        )
        self.mining_power, self.coherence = mining_power, coherence
        start_small(self)

    def rebuilt_from(self, tokens, prototypes):
        """Return the decoder's maps (b, d, gh, gw), the last one first."""
        tokens, found = self.bottleneck(tokens), []
        for block in self.decoder:
            tokens = block(tokens, prototypes)
            found.append(tokens.mT.unflatten(2, self.grid))
        return found[::-1]

    def rebuilt_maps(self, maps):
        """Return the decoder's maps (b, d, gh, gw), the last one first."""
        tokens = self.mean_tokens(maps)
        return self.rebuilt_from(tokens, self.prototypes(tokens))

    def loss(self, x, y):
        """Return the distance of whole maps, and that of tokens to prototypes."""
        maps = self.seen(x)
        tokens = self.mean_tokens(maps)
        prototypes = self.prototypes(tokens)
        losses = []
        for known, rebuilt in self.paired(maps, self.rebuilt_from(tokens, prototypes)):
            with torch.no_grad():
                away = direction_distance(known, rebuilt)
                share = mining(away, self.mining_power)[:, None]
            losses.append(whole_distance(known, with_gradient(rebuilt, share)).mean())
        gathered = to_prototypes(tokens, prototypes).mean()
        return torch.stack(losses).mean() + self.coherence * gathered


@with_parameters
class INPFormer(BlocksDetector):
    r"""Patches that are not rebuilt from the few prototypes of their own picture.

    The middle blocks of a frozen vision transformer describe the patches of a picture;
    :math:`F` is their mean. A few learned queries gather from it the picture's own
    prototypes :math:`P`: attention to :math:`F`, and a perceptron. A decoder rebuilds
    the blocks from the prototypes alone [1]_: of its tokens, which come from :math:`F`
    through a bottleneck, each block keeps only how much they agree with each prototype,

    .. math:: x \leftarrow \max(0, a \cos(q(x), k(P))) \, v(P),

    and nothing goes around it. As in :class:`Dinomaly`, the means of the first and of
    the second half of the blocks, :math:`f_1, f_2`, are compared with the decoder's
    :math:`g_1, g_2`, whole maps taken as rows; training makes small

    .. math:: \mathrm{mean}_k (1 - \cos(f_k, g_k))
        + \lambda \, \mathrm{mean}_i \min_j (1 - \cos(F_i, P_j)).

    The gradient of the first counts at a place by :math:`(d / \bar d)^\gamma`, with its
    distance :math:`d = 1 - \cos` of vectors and the mean of that over the batch. The
    anomaly of a patch is the mean over k of its :math:`d`; the map is that,
    interpolated to the pixels of the picture and smoothed, and the score is the mean of
    its largest hundredth.

    Read more in the :ref:`User Guide <image>`.

    Parameters
    ----------
    n_prototypes : int, default=6
        Prototypes of a picture.
    mining_power : float, default=3.0
        :math:`\gamma`; 0 lets all places teach alike.
    coherence : float, default=0.2
        :math:`\lambda`.
    random_state : int, RandomState instance or None, default=None
        Draws the weights and the batches. Pass an int for reproducible results.

    Attributes
    ----------
    net_ : torch.nn.Module
        The trained network, with its `prototypes`, `bottleneck` and `decoder`.

    See Also
    --------
    Dinomaly : A decoder that sees all tokens, through a bottleneck with dropout.
    skad.embedding.ViTEmbedding : The transformer's blocks, as `embedding`.

    Notes
    -----
    The paper's is ``INPFormer(embedding=ViTEmbedding(model, layers=range(2, 10),
    norm=False, image_size=392))`` with a DINOv2 with registers and 200 epochs. It is
    built on any layers of one width, and a network that is no transformer has the
    quality of that: with the third stage of a ResNet-18, at 128 pixels, 80 epochs of 80
    magnetic tiles, 320 steps in 40 s, reach areas under the ROC curve of pictures / of
    pixels of 0.893 / 0.666, `PatchCore` 0.903 / 0.768
    (``benchmarks/results/images_training.tsv``).

    With the built-in bank of filters it finds large changes, as below, and not small
    ones: on small drawn textures with defects its ROC AUC was .40 after 20 epochs and
    .51 at best after 60.

    Departures: pictures are not cropped, steps are AdamW's with clipped gradients
    (0.1), where the authors' code bounds each tensor's step as well, and maps are
    smoothed by a whole Gaussian, where theirs has five pixels of it. Scoring by the
    distance to prototypes alone, with weights from other pictures, is not built.

    The blocks of the training pictures are computed once and kept, where they fit in
    scikit-learn's ``working_memory``. Training is in float32, scoring in the dtype of
    `X`.

    References
    ----------
    .. [1] W. Luo, Y. Cao, H. Yao, X. Zhang, J. Lou, Y. Cheng, W. Shen and W. Yu,
       "Exploring intrinsic normal prototypes within a single image for universal
       anomaly detection", CVPR, 2025.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.image import INPFormer
    >>> rng = np.random.default_rng(0)
    >>> stripes = 0.5 + 0.2 * np.sin(np.arange(32) / 2)
    >>> good = stripes + rng.normal(0, 0.01, size=(20, 32, 32))
    >>> bad = good[:1].copy()
    >>> bad[0, 8:16, 16:24] = 0.9
    >>> detector = INPFormer(layers=["scale2"], max_epochs=20, random_state=0)
    >>> detector = detector.set_params(smoothing=1).fit(good)
    >>> detector.predict(bad)
    array([-1])
    """

    _network_class = INPFormerNetwork
    _parameter_constraints = {
        "n_prototypes": [Interval(Integral, 1, None, closed="left")],
        "mining_power": [Interval(Real, 0, None, closed="left")],
        "coherence": [Interval(Real, 0, None, closed="left")],
    }

    n_prototypes: int = 6
    mining_power: float = 3.0
    coherence: float = 0.2
