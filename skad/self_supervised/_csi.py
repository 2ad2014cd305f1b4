"""CSI: views of a picture against those of others and of its own turned copies."""

import torch
from torch.nn import functional

from skad._parameters import with_parameters
from skad._sklearn import StrOptions
from skad._training._contrastive import ContrastiveDetector
from skad.nn.contrast import corner_crops, cropped
from skad.nn.shifted import SHIFTS, ShiftedNetwork

# The share of a picture that is looked at when it is scored.
_SEEN = 0.54
# Cosines that are held together.
_TOGETHER = 2**21


class CSINetwork(ShiftedNetwork):
    """An encoder, what it says of shifted copies, and that of the training pictures."""

    def __init__(
        self,
        shape,
        architecture,
        hidden_sizes,
        code_size,
        projection_size,
        temperature,
        least_crop,
        shift,
        crops,
    ):
        encoder = architecture, hidden_sizes, code_size, projection_size
        super().__init__(shape, *encoder, temperature, least_crop, shift)
        self.crops, n = crops, len(self.shifts)
        self.register_buffer("corners", corner_crops(_SEEN), persistent=False)
        self.register_buffer("lengths", torch.ones(n))
        self.register_buffer("logits", torch.ones(n))
        # as many as there are pictures, and made anew when a training goes on
        bank = torch.zeros(n, 0, projection_size)
        self.register_buffer("bank", bank, persistent=False)

    def seen(self, x):
        """Yield the copies (b K, c, h, w) of pictures in all ways to look at them."""
        if not self.crops:
            yield self.copies(x).flatten(0, 1)
            return
        for flipped in (x, x.flip(3)):
            copies = self.copies(flipped).flatten(0, 1)
            for corner in self.corners:
                yield cropped(copies, corner.expand(len(copies), -1, -1))

    def described(self, x):
        """Return projected codes (b, K, p) of copies, and their own shifts' logits.

        The logits (b, K), and both are means over all ways to look.
        """
        codes, logits, n = 0.0, 0.0, 0
        for view in self.seen(x):
            found = self.encoder(view)
            codes, logits = codes + self.projection(found), logits + self.head(found)
            n += 1
        each = len(x), len(self.shifts)
        logits = logits.unflatten(0, each).diagonal(dim1=1, dim2=2)
        return codes.unflatten(0, each) / n, logits / n

    def finish(self, batches, held=None):
        """Keep the directions of the training pictures' codes, and mean lengths."""
        super().finish(batches, held)
        found = [self.described(x) for x, _ in batches()]
        codes, logits = (torch.cat(each) for each in zip(*found, strict=True))
        self.bank = functional.normalize(codes, dim=2).transpose(0, 1).contiguous()
        self.lengths.copy_(codes.norm(dim=2).mean(0))
        self.logits.copy_(logits.mean(0))

    def anomaly(self, x):
        """Return minus the sum over shifts of both scores, by their training means."""
        codes, logits = self.described(x)
        # a length times a cosine is the product with a direction
        n = max(1, _TOGETHER // logits.numel())
        near = torch.stack(
            [
                torch.einsum("bkp,knp->bkn", codes, part).amax(2)
                for part in self.bank.split(n, 1)
            ]
        ).amax(0)
        lengths, usual = (
            each.abs().clamp(min=1e-12) for each in (self.lengths, self.logits)
        )
        return -(near / lengths + logits / usual).sum(1)


@with_parameters
class CSI(ContrastiveDetector):
    r"""Pictures that have short codes, unlike those of others and in no known turn.

    A picture that is turned by quarters, :math:`T_k x`, counts as another one. A
    network learns codes by which two random views of each (crops, other colours, flips)
    are found among those of all, the turned copies of the same picture too, and beside
    that to tell by which k a view was turned [1]_. With the projected code
    :math:`z_k(x)` of :math:`T_k x`, the logit :math:`f_k(x)` of k for it, and their
    means :math:`\bar z_k` of the lengths :math:`\|z_k\|` and :math:`\bar f_k` over the
    training pictures :math:`x_m`, the anomaly is

    .. math:: a(x) = -\sum_k \Big( \frac1{\bar z_k} \max_m \cos\big(z_k(x), z_k(x_m)
        \big) \, \|z_k(x)\| + \frac1{|\bar f_k|} f_k(x) \Big).

    The map is its integrated gradients on the way from the mean training picture: their
    sum is the anomaly less that of the mean, up to the error of the quadrature.

    Read more in the :ref:`User Guide <self_supervised>`.

    Parameters
    ----------
    shift : {"turns", "halves"}, default="turns"
        What makes other pictures: turns, or upper and lower halves that change places,
        left and right ones, and both, for pictures that are as usual when turned.
    crops : bool, default=True
        Whether codes and logits of a picture are means over five crops of .54 of it,
        its middle and corners, and over the same ones flipped; else they are its own.
    max_epochs : int or "auto", default=1000
        Passes over the training pictures, with two views of each copy.

    Attributes
    ----------
    net_ : torch.nn.Module
        The trained network, with its `encoder`, `projection` and `head`, the directions
        of codes in `bank`, and the means over training pictures `lengths` and `logits`.

    See Also
    --------
    SSD : The same contrast without turns, and a Gaussian of codes.
    RotNet : The turns alone are learned.

    Notes
    -----
    A turn has to make another picture of a picture: for textures, cells and what is
    seen from above take ``shift="halves"``. Pictures that are not square have half
    turns alone; shifts that do the same to pictures of a size count once.

    The authors' codes are means over ten views that are drawn anew for each batch, so
    that a score depends on the batch; here the crops are fixed, of the same size and as
    many, and have the picture's own colours. A mean logit that is negative, as it may
    be where the network has learned little, would turn its score around in the paper,
    and its size counts here. Views keep their hue. A network of WRN-10-4 and plain
    gradient descent take the place of ResNet-18 and LARS, which the authors have for
    large batches.

    An epoch takes eight passes of each picture and a score forty, or four without
    `crops`; a map takes 16 times as many. All codes of the training pictures are kept.
    The defaults are for a GPU, and thousands of pictures: lengths of codes say little
    before a long training. Of 300 pictures of a class of Fashion-MNIST,
    ``hidden_sizes=(8, 16, 32), code_size=64`` without `crops` learns in 20 epochs and
    two minutes enough for a ROC AUC of .81 against other classes, mean of two, where
    the distance to the mean picture has .90 and the network without training .44.

    References
    ----------
    .. [1] J. Tack, S. Mo, J. Jeong and J. Shin, "CSI: novelty detection via contrastive
       learning on distributionally shifted instances", NeurIPS, 2020, equations (5) to
       (9).

    Examples
    --------
    >>> import numpy as np
    >>> from skad.self_supervised import CSI
    >>> X = np.random.default_rng(0).uniform(size=(30, 8, 8)) * np.arange(8) / 8
    >>> small = {"hidden_sizes": (4,), "code_size": 8, "crops": False}
    >>> detector = CSI(**small, max_epochs=2, random_state=0).fit(X)
    >>> detector.transform(X[:2]).shape
    (2, 8, 8)
    """

    shift: str = "turns"
    crops: bool = True
    max_epochs: int | str = 1000
    weight_decay: float = 1e-6

    _network_class = CSINetwork
    _parameter_constraints = {
        "shift": [StrOptions(set(SHIFTS))],
        "crops": ["boolean"],
    }
