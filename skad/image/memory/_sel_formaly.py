"""SelFormaly: a memory of foreground patches, and the mean of the farthest ones."""

from numbers import Integral, Real
from typing import Any

import torch
from torch.nn import functional as F  # noqa: N812

from skad._parameters import absent, with_parameters
from skad._sklearn import Interval, StrOptions
from skad.embedding._taps import join_maps
from skad.image.memory._bank import PatchBank


def foreground(attention, window):
    """Return attention (b, gh, gw) averaged around places, over its largest value.

    Parameters
    ----------
    attention : tensor of shape (b, gh, gw)
        How much patches are attended to.
    window : int
        Side of the square of places that are averaged, odd; zeros beyond the border.
    """
    around = F.avg_pool2d(attention[:, None], window, 1, window // 2)[:, 0]
    return around / around.amax((1, 2), keepdim=True)


@with_parameters
class SelFormaly(PatchBank):
    r"""Foreground patches unlike the normal ones, the mean of a share of the farthest.

    A self-supervised vision transformer describes each patch of a picture by its token,
    the mean over several blocks, brought to unit length, :math:`p`. Its attention tells
    the background: :math:`w` is that of the token of the picture to the patches, the
    mean over heads and the same blocks, averaged over the places around and divided by
    the picture's largest; patches with :math:`w \le t` are left out ("back patch
    masking"). A memory :math:`\mathcal{M}` keeps a core-set of the normal patches that
    are not. The anomaly of a patch is

    .. math:: s(p) = \min_{m \in \mathcal{M}} \lVert p - m \rVert^2.

    The map is that of all patches, interpolated to the pixels of the picture and
    smoothed. The score is the mean of a share of the largest anomalies of patches (the
    "top k-ratio"), in which those of the background are zero, before smoothing. Defects
    and pictures of another kind of thing are found by the same.

    Read more in the :ref:`User Guide <image>`.

    Parameters
    ----------
    top_share : float, default=0.05
        Share of the patches of a picture that make its score; at least one, which is
        the maximum.
    mask : {"auto", "attention"} or None, default="auto"
        Which patches count. "attention" is those that are attended to, and needs a
        `ViTEmbedding`; None is all; "auto" is the first where there is one, else the
        second.
    min_attention : float, default=0.1
        :math:`t`. 0 leaves out those alone that get none.
    window : int, default=7
        Side of the square of places over which attention is averaged, odd.
    coreset_ratio : float, default=0.1
        Share of all normal patches that the memory keeps, chosen among those that
        count; all of these where they are fewer.
    neighborhood : int, default=1
        Places, in both directions, over which features are averaged; odd. With an
        `embedding` it is the embedding's.

    Attributes
    ----------
    mask_ : str or None
        The mask that "auto" stands for.

    See Also
    --------
    AnomalyDINO : Directions of tokens too, turned copies, another mask.
    PatchCore : Distances to a core-set, the maximum of the map.
    skad.embedding.ViTEmbedding : The transformer's blocks, as `embedding`.

    Notes
    -----
    The later version of the paper [1]_ calls it UniFormaly. The released code [2]_ has,
    for defects, a ViT-B/8 of DINO and its blocks 2 to 9, without the norm behind the
    last::

        blocks = ViTEmbedding(model, layers=range(2, 10), norm=False, image_size=224)
        SelFormaly(embedding=blocks)

    The defaults are that code's: the shares, the least attention, the window, squared
    distances to one neighbour and the Gaussian of 4 pixels. So are the zeros of the
    background within the share, and a map that knows of no background; without a token
    of the picture, attention is the mean of that of all patches there as well. Unit
    length is a switch of the code, which its scripts leave off and which is always on
    here. It divides attention by the largest of a batch, here it is the picture's own;
    and it keeps `coreset_ratio` of the patches that count, here it is of all.

    Attention is what the blocks compute themselves, in the same pass: a softmax of
    tokens by tokens. It is built on whatever describes patches; with another network
    there is no attention, layers stand beside one another instead of being averaged,
    and it has that network's quality. With a ResNet-18, at 128 pixels, areas under the
    ROC curve of pictures / of pixels are 0.90 / 0.73 on 80 magnetic tiles and 0.99 /
    0.96 on cookies, those of `PatchCore` 0.90 / 0.77 and 1.00 / 0.95. On a transformer
    of the paper's size it was not measured here.

    Scoring costs O(p m d) beside the backbone, for p patches, m in the memory and d
    features. With ``contamination="auto"`` the threshold comes from the training
    pictures' scores without their own patches.

    References
    ----------
    .. [1] Y. Lee, H. Lim, S. Jang and H. Yoon, "UniFormaly: towards task-agnostic
       unified framework for visual anomaly detection", arXiv:2307.12540, 2023; at first
       "SelFormaly: towards task-agnostic unified anomaly detection".
    .. [2] Y. Lee, "Uniformaly", GitHub, 2023.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.image import SelFormaly
    >>> rng = np.random.default_rng(0)
    >>> good = rng.normal(0.5, 0.02, size=(8, 32, 32))
    >>> bad = good[:1].copy()
    >>> bad[0, 8:12, 20:24] = 1.0
    >>> detector = SelFormaly(random_state=0).fit(good)
    >>> detector.predict(bad)
    array([-1])
    """

    top_share: float = 0.05
    mask: str | None = "auto"
    min_attention: float = 0.1
    window: int = 7
    neighborhood: int = 1
    # the score is of patches, and not of the map
    pooling: Any = absent()
    quantile: Any = absent()

    _bounded = False
    _parameter_constraints = {
        "top_share": [Interval(Real, 0, 1, closed="right")],
        "mask": [StrOptions({"auto", "attention"}), None],
        "min_attention": [Interval(Real, 0, 1, closed="left")],
        "window": [Interval(Integral, 1, None, closed="left")],
    }

    @property
    def _exports(self):
        # blocks are watched while they attend, which a graph cannot
        return getattr(self, "mask_", None) is None

    def _fit_embedding(self, X):
        super()._fit_embedding(X)
        if self.window % 2 == 0:
            raise ValueError(f"window={self.window} must be odd.")
        attends = hasattr(self.embedding_, "attended")
        if self.mask == "attention" and not attends:
            raise ValueError(
                'mask="attention" is of vision transformers: pass a ViTEmbedding as '
                "embedding, or mask=None."
            )
        auto = "attention" if attends else None
        self.mask_ = auto if self.mask == "auto" else self.mask

    def _features(self, x):
        """Return tokens (b, gh, gw, d), and beside them, with a mask, attention."""
        if hasattr(self.embedding_, "attended"):
            blocks, attention = self._blocks(x)
            maps = torch.stack([each for _, each in blocks]).mean(0)
            tokens = join_maps([maps], self.embedding_.neighborhood)
        else:
            tokens, attention = self.embedding_.embed(x), None
        # no token is zero but where a bank of filters sees nothing
        length = tokens.square().sum(3, keepdim=True).sqrt()
        tokens = tokens / length.clamp(min=torch.finfo(tokens.dtype).tiny)
        if attention is None:
            return tokens
        counts = foreground(attention, self.window)[..., None]
        return torch.cat([tokens, counts.to(tokens)], 3)

    def _blocks(self, x):
        """Return the tokens of all blocks, and the attention, None without a mask."""
        if self.mask_ is None:
            return self.embedding_.tokens(x), None
        return self.embedding_.attended(x)

    def _parted(self, features):
        """Return the tokens of features, and which patches count, None for all."""
        if self.mask_ is None:
            return features, None
        return features[..., :-1], features[..., -1] > self.min_attention

    def _candidates(self, features, owners, random):
        tokens, counts = self._parted(features)
        patches, own = super()._candidates(tokens, owners, random)
        if counts is None:
            return patches, own
        counts = counts.flatten()
        return patches[counts], own[counts]

    def _search(self, features, own=None):
        return super()._search(self._parted(features)[0].contiguous(), own)

    def _weighed(self, distances, indices):
        return distances.square()

    def _picture(self, patches, features, indices, own=None, maps=None):
        counts = self._parted(features)[1]
        if counts is not None:
            patches = patches.masked_fill(~counts, 0)
        rows = patches.flatten(1)
        n_top = max(1, round(self.top_share * rows.shape[1]))
        return rows.topk(n_top, dim=1).values.mean(1)
