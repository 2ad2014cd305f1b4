"""IKD: a student that learns from what it finds hard, and from how places relate."""

from numbers import Real

from torch import nn
from torch.nn import functional as F  # noqa: N812

from skad._parameters import with_parameters
from skad._sklearn import Interval
from skad._training import lower_at_the_end
from skad.image._trained import split_maps
from skad.image.student._stfpm import StudentDetector
from skad.nn.distillation import AboveMargin
from skad.nn.residual import direction_distance, stacked
from skad.nn.statistics import SettledNetwork


def affinity_distance(theirs, own):
    r"""Return the mean squared difference of two tables of cosines (n, n), a scalar.

    Of unit vectors (n, c), T and S, by tables of channels: :math:`\|T T^T - S S^T\|^2 =
    \|T^T T\|^2 + \|S^T S\|^2 - 2 \|T^T S\|^2`. Nothing is of size n x n.
    """

    def product(a, b):
        return (a.T @ b).square().sum()

    total = product(theirs, theirs) + product(own, own) - 2 * product(theirs, own)
    return total / len(own) ** 2


class IKDNetwork(SettledNetwork):
    """A student that is shown pictures and has to say what its teacher says."""

    def __init__(self, student, shapes, margin, affinity_weight):
        super().__init__()
        self.student, self.shapes = student, shapes
        self.affinity_weight = affinity_weight
        self.grid = max((s[1:] for s in shapes[1:]), key=lambda size: size[0] * size[1])
        self.hard = nn.ModuleList(AboveMargin(beta=margin) for _ in shapes[1:])

    def pairs(self, x):
        """Return the teacher's map beside the student's, all on the finest grid."""
        picture, *teacher = split_maps(x, self.shapes)
        return [
            tuple(F.interpolate(each, self.grid, mode="bilinear") for each in pair)
            for pair in zip(teacher, self.student(picture), strict=True)
        ]

    def loss(self, x, y):
        """Return the error of hard places and of their cosines, summed over layers."""
        total = 0.0
        for (theirs, own), hard in zip(self.pairs(x), self.hard, strict=True):
            d = 2 * direction_distance(theirs, own)
            chosen = hard.chosen(d)
            total = total + d[chosen].mean()
            if self.affinity_weight:
                units = [
                    F.normalize(each, dim=1).movedim(1, 3)[chosen]
                    for each in (theirs, own)
                ]
                total = total + self.affinity_weight * affinity_distance(*units)
        return total

    def map(self, x):
        """Return one minus the cosine of places, summed over layers at one size."""
        maps = [direction_distance(*pair) for pair in self.pairs(x)]
        return stacked(maps, self.shapes[0][1:]).sum(0)


@with_parameters
class IKD(StudentDetector):
    r"""Patches that a student tells otherwise than its teacher, which hard ones taught.

    As in :class:`STFPM` a student learns to give the maps :math:`F_t^l` of a frozen
    teacher. At a place they differ by the squared distance d of the vectors of length
    one, :math:`\hat t` and :math:`\hat s`. Most places are soon learned, and learning
    them further would let the student know what is not normal too: only the places H
    with :math:`d \ge m` count, and on them the student is also to say which places are
    alike [1]_,

    .. math:: L = \sum_l \frac{1}{|H|} \sum_{i \in H} d_i + \frac{\gamma}{|H|^2}
        \sum_{i,j \in H} \left(\hat t_i \cdot \hat t_j - \hat s_i \cdot \hat s_j
        \right)^2,

    where the margin m of each layer follows the batches,
    :math:`m \leftarrow 0.01 \, m + 0.99 \, (\mu_d + \beta \sigma_d)`. The maps have the
    size of the finest. The map is the sum over layers of one minus the cosine,
    interpolated to the size of the picture and smoothed; the score is the mean of its
    largest hundredth.

    Read more in the :ref:`User Guide <image>`.

    Parameters
    ----------
    margin : float, default=2.0
        :math:`\beta`, in standard deviations above the mean.
    affinity_weight : float, default=1.0
        :math:`\gamma`; 0 leaves the second term out.
    optimizer : {"adam", "adamw", "sgd", "rmsprop"} or callable, default="adam"
        The optimizer, or a class with torch's signature; what takes betas has 0.5 and
        0.999. The last fifth of the epochs has a tenth of `lr`.

    Attributes
    ----------
    embedding_ : PatchEmbedding
        The teacher: what describes the patches.
    net_ : torch.nn.Module
        The trained network, with its `student`.

    See Also
    --------
    CDO : Hard places count more, and the student is to fail in noise.
    STFPM : All places count alike; the map is a product.

    Notes
    -----
    The loss is that of the authors' later code, which trains it as it trains
    :class:`CDO`; sizes of steps, map and score are the same here. Where no place
    reaches the margin, the code takes the mean of all, here the largest counts. With
    our ResNets the student is of the teacher's architecture, with batch norms, else of
    residual blocks; norms take their statistics from all training pictures, as in
    :class:`STFPM`. Training is in float32, scoring in the dtype of `X`.

    31 cookies at 64 x 64 train it with a ResNet-18 in 9 CPU seconds, 20 epochs with
    batches of 4: 46 others are told with a ROC AUC of .95 and pixels with .90, as by
    PatchCore at that size, with .94 and .90. 80 magnetic tiles, 10 epochs with batches
    of 8, are told with .84 and .76; PatchCore has .91 and .79.

    References
    ----------
    .. [1] Y. Cao, Q. Wan, W. Shen and L. Gao, "Informative knowledge distillation for
       image anomaly segmentation", Knowledge-Based Systems, 2022.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.image import IKD
    >>> rng = np.random.default_rng(0)
    >>> stripes = 0.5 + 0.2 * np.sin(np.arange(32) / 2)
    >>> good = stripes + rng.normal(0, 0.01, size=(20, 32, 32))
    >>> bad = good[:1].copy()
    >>> bad[0, 8:16, 16:24] = 0.9
    >>> detector = IKD(
    ...     max_epochs=10, batch_size=5, smoothing=1, lr=0.005, random_state=0
    ... ).fit(good)
    >>> detector.predict(bad)
    array([-1])
    """

    _kind = "pictures+maps"
    _optimizer_options = {"betas": (0.5, 0.999)}
    _parameter_constraints = {
        "margin": [Interval(Real, None, None, closed="neither")],
        "affinity_weight": [Interval(Real, 0, None, closed="left")],
    }

    margin: float = 2.0
    affinity_weight: float = 1.0
    pooling: str = "top"
    lr: float = 1e-3
    weight_decay: float = 0.05

    def _own_callbacks(self, phase, n_epochs):
        return lower_at_the_end(n_epochs, share=0.2, factor=0.1)

    def _network(self, shapes):
        student = self._student(shapes)
        return IKDNetwork(student, shapes, self.margin, self.affinity_weight)
