"""CPC: patches whose code cannot be told from the patches before them."""

from numbers import Integral

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from skad._parameters import with_parameters
from skad._sklearn import Interval
from skad._training import from_parameters
from skad.image._pixels import PixelDetector
from skad.nn.network import Network
from skad.nn.patches import SIDES, PatchEncoder, filled, spread

# Layers that look at the rows before, and the places of a grid at least: from each of
# four sides those in the middle, and from one at least all others, are predicted.
_LAYERS, _GRID = 3, 4
# Patches overlap the next ones, which therefore say too much of each other.
_BETWEEN = 1


class Before(nn.Module):
    """Codes (b, d, gh, gw) of what lies in a row and in the rows before it.

    No row is seen by those before it; to the sides each layer looks one place on.
    """

    def __init__(self, code_size):
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Conv2d(code_size, code_size, (2, 3)) for _ in range(_LAYERS)
        )

    def forward(self, codes):
        """Return contexts of the same shape."""
        for layer in self.layers:
            codes = codes + layer(F.pad(codes.relu(), (1, 1, 1, 0)))
        return codes


class CPCNetwork(Network):
    """An encoder of patches, and from each of four sides what predicts its codes."""

    def __init__(self, shape, patch_size, code_size, n_steps, n_negatives):
        super().__init__()
        self.shape, self.n_negatives = shape, n_negatives
        self.side, self.stride = patch_size, patch_size // 2
        self.encoder = PatchEncoder(shape[0], patch_size, code_size)
        self.contexts, self.predictions = nn.ModuleList(), nn.ModuleList()
        for _ in range(4):
            self.contexts.append(Before(code_size))
            steps = (
                nn.Conv2d(code_size, code_size, 1, bias=False) for _ in range(n_steps)
            )
            self.predictions.append(nn.ModuleList(steps))
        self.register_buffer("negatives", torch.zeros(0, code_size), persistent=False)

    def pictures(self, x):
        """Return pictures (b, c, h, w) that patches fill, and how much is before.

        They go on as they are at the border where the grid would have too few places.
        """
        pictures = 2 * x.unflatten(1, self.shape) - 1
        least = self.side + (_GRID - 1) * self.stride
        missing = [max(0, least - n) for n in self.shape[1:]]
        top, left = (n // 2 for n in missing)
        edges = left, missing[1] - left, top, missing[0] - top
        pictures = F.pad(pictures, edges, mode="replicate")
        pictures, before = filled(pictures, self.side, self.stride)
        return pictures, (before[0] + top, before[1] + left)

    def codes(self, pictures):
        """Return the codes (b, d, gh, gw) of the patches of pictures."""
        # patches are half a side from each other: their quarters do not overlap
        side = self.stride
        rows, columns = (n // side for n in pictures.shape[2:])
        blocks = pictures.unflatten(3, (columns, side)).unflatten(2, (rows, side))
        blocks = blocks.permute(0, 2, 4, 1, 3, 5)  # (b, rows, columns, c, side, side)
        quarters = self.encoder.quarters(blocks.flatten(0, 2))[:, :, 0, 0]
        quarters = quarters.unflatten(0, (-1, rows, columns)).movedim(3, 1)
        return self.encoder.joined(quarters, 1)

    def losses(self, codes, negatives):
        """Return the loss (b, gh, gw) of patches, the mean over sides and steps.

        Parameters
        ----------
        codes : tensor of shape (b, d, gh, gw)
            The codes of patches.
        negatives : tensor of shape (n, d)
            Codes of patches among which each has to be found.
        """
        total = torch.zeros_like(codes[:, 0])
        count = torch.zeros_like(codes[0, 0])
        for turn, (context, steps) in enumerate(
            zip(self.contexts, self.predictions, strict=True)
        ):
            turned = codes.rot90(turn, (2, 3))
            known, lost = context(turned), torch.zeros_like(turned[:, 0])
            seen = torch.zeros_like(turned[0, 0])
            for k, step in enumerate(steps, 1 + _BETWEEN):
                if k >= turned.shape[2]:
                    break
                told = step(known[:, :, :-k])
                right = (told * turned[:, :, k:]).sum(1, keepdim=True)
                wrong = torch.einsum("bdij,nd->bnij", told, negatives)
                every = torch.cat([right, wrong], 1).logsumexp(1)
                lost = lost + F.pad(every - right[:, 0], (0, 0, k, 0))
                seen[k:] += 1
            total = total + lost.rot90(-turn, (1, 2))
            count = count + seen.rot90(-turn, (0, 1))
        return total / count

    # ------------------------------------------------------------------------- training

    def loss(self, x, y):
        """Return the mean loss of patches among some that are drawn from the batch."""
        codes = self.codes(self.pictures(x)[0])
        every = codes.movedim(1, 3).flatten(0, 2)
        drawn = torch.randint(len(every), (self.n_negatives,))
        return self.losses(codes, every[drawn.to(every.device)]).mean()

    def finish(self, batches, held=None):
        """Draw the patches of the training pictures that scores compare with."""
        kept, keys = self.negatives[:0], torch.zeros(0)
        for x, _ in batches():
            codes = self.codes(self.pictures(x)[0]).movedim(1, 3).flatten(0, 2)
            kept = torch.cat([kept, codes])
            keys = torch.cat([keys, torch.rand(len(codes))])
            keys, chosen = keys.topk(min(self.n_negatives, len(keys)))
            kept = kept[chosen.to(kept.device)]
        self.negatives = kept

    # -------------------------------------------------------------------------- scoring

    def map(self, x):
        """Return the mean loss (b, h, w) of the patches that pixels lie in."""
        pictures, before = self.pictures(x)
        rows, columns = (
            slice(m, m + n) for m, n in zip(before, self.shape[1:], strict=True)
        )
        losses = self.losses(self.codes(pictures), self.negatives)
        return spread(losses, self.side, self.stride)[:, rows, columns]


@with_parameters
class CPC(PixelDetector):
    r"""Patches whose code cannot be told from the patches before them.

    An encoder gives each patch of a picture a code :math:`z`, and a network makes of
    the codes in a row of patches, and in all rows before it, contexts :math:`c`. For
    each k a matrix :math:`W_k` predicts from them the codes k rows on: the patch there
    has to be found among N others, with codes :math:`z_j`. That loss is what training
    makes small, and it is the anomaly of a patch [1]_:

    .. math:: a = -\log \frac{\exp(z \cdot W_k c)}
        {\exp(z \cdot W_k c) + \sum_{j=1}^N \exp(z_j \cdot W_k c)},

    its mean over k and over the four sides from which rows are counted. Every pixel has
    the mean over the patches that it lies in. The score is what `pooling` makes of the
    map.

    Read more in the :ref:`User Guide <image>`.

    Parameters
    ----------
    patch_size : {8, 16, 32, 64} or None, default=None
        Side of the patches in pixels of `image_size`, each half a side from the next.
        None is the largest that is an eighth of the smaller side of the pictures, or 8.
    code_size : int, default=64
        Length of codes and contexts.
    n_steps : int, default=3
        Rows on that are predicted, each by a matrix of its own. The next row is left
        out, whose patches overlap.
    n_negatives : int, default=128
        The number N of other patches: of the batch in training, and then always the
        same ones of the training pictures.
    image_size : int, tuple of int or None, default=None
        Size to which pictures are brought; None leaves them.
    smoothing : float, default=0.0
        Standard deviation of the Gaussian that smooths maps, in pixels of `image_size`.
    random_state : int, RandomState instance or None, default=None
        Draws weights and the other patches. Pass an int for reproducible results.

    Attributes
    ----------
    net_ : torch.nn.Module
        The trained network, with its `encoder`, `contexts`, `predictions` and the codes
        `negatives`, of shape (n_negatives, code_size).

    See Also
    --------
    PatchSVDD : Where patches lie of each other is learned, and their codes compared.
    skad.self_supervised.CSI : Whole pictures among others.

    Notes
    -----
    Where nothing is learned, with :math:`W_k = 0`, the anomaly is
    :math:`\log(1 + N)` everywhere.

    The paper has no code, and its sizes of pictures, patches and networks were not to
    be found: the encoder (that of `PatchSVDD`), the three causal layers that make
    contexts, the number of steps and of other patches, rates and pooling are our
    choice. There other patches are drawn for each score, so that it depends on chance;
    here those of scores are drawn once. Rows are counted from above there, and from
    each side here, so that every patch has patches before it. The next row is left out
    because its patches share pixels with what is known. Small pictures go on as they
    are at the border, to four rows and columns of patches.

    Training costs by the pixels: an epoch of 31 pictures of 512 x 384 takes 20 CPU
    seconds, and at ``image_size=128`` a twelfth of it.

    31 cookies at 64 x 64 train it in 22 CPU seconds, 30 epochs; 46 others are told with
    a ROC AUC of .96 and their pixels with .93, by the distance to the mean picture with
    .95 and .89. After 100 epochs it is .93 and .91: of few pictures it learns their
    own; after 3 it flags 3 of 14 new good ones. Random weights have .95 and .34. 80
    magnetic tiles are told with .58 after 30 epochs and pixels with .59, a texture of
    which one patch says little about the next; random weights have .51 and .58, the
    mean picture .46 and .60, and what a backbone has learned elsewhere tells far more
    (`PatchCore`). Training is in float32, scoring in the dtype of `X`.

    References
    ----------
    .. [1] P. de Haan and S. Löwe, "Contrastive predictive coding for anomaly
       detection", ICML workshop on uncertainty and robustness in deep learning, 2021.
    .. [2] A. van den Oord, Y. Li and O. Vinyals, "Representation learning with
       contrastive predictive coding", 2018, equation (4).

    Examples
    --------
    >>> import numpy as np
    >>> from skad.image import CPC
    >>> rng = np.random.default_rng(0)
    >>> stripes = 0.5 + 0.2 * np.sin(np.arange(32) / 2)
    >>> good = stripes + rng.normal(0, 0.01, size=(20, 32, 32))
    >>> bad = good[:1].copy()
    >>> bad[0, 8:16, 16:24] = 0.9
    >>> detector = CPC(max_epochs=20, random_state=0).fit(good)
    >>> detector.predict(bad)
    array([-1])
    """

    _network_class = CPCNetwork
    _exports = False
    _parameter_constraints = {
        "patch_size": [Integral, None],
        "code_size": [Interval(Integral, 1, None, closed="left")],
        "n_steps": [Interval(Integral, 1, None, closed="left")],
        "n_negatives": [Interval(Integral, 1, None, closed="left")],
    }

    patch_size: int | None = None
    code_size: int = 64
    n_steps: int = 3
    n_negatives: int = 128
    lr: float = 1e-3
    smoothing: float = 0.0

    def _check_parameters(self, X):
        super()._check_parameters(X)
        if self.patch_size not in (None, *SIDES):
            raise ValueError(f"patch_size={self.patch_size} must be one of {SIDES}.")

    def _network(self, shapes):
        shape, fitting = shapes[0], {}
        if self.patch_size is None:
            small_enough = [side for side in SIDES if 8 * side <= min(shape[1:])]
            fitting["patch_size"] = max(small_enough, default=SIDES[0])
        return from_parameters(self, CPCNetwork, shape, **fitting)
