"""GraphCore: PatchCore on a vision graph network, with a small bank."""

from skad._parameters import with_parameters
from skad.image.memory._patchcore import FarthestPatchBank


@with_parameters
class GraphCore(FarthestPatchBank):
    r"""Patches unlike the few normal patches that stand for all, by a graph network.

    A vision graph network takes a picture as a graph of patches with edges between
    those that are alike, so that its features follow a part that is moved or turned
    [1]_. What two of its stages say of a patch is joined, :math:`p`. A bank
    :math:`\mathcal{M}` keeps a thousandth of the normal patches, a core-set that covers
    them, and the anomaly of a patch is

    .. math:: s(p) = \min_{m \in \mathcal{M}} \lVert p - m \rVert.

    The map is that, interpolated to the pixels of the picture and smoothed; the score
    is that of the farthest patch, before smoothing. Nothing is trained. It is
    ``PatchCore(coreset_ratio=0.001, neighborhood=1, n_neighbors=1)``.

    Read more in the :ref:`User Guide <image>`.

    Parameters
    ----------
    coreset_ratio : float, default=0.001
        Share of the normal patches that the bank keeps, at least one patch.
    neighborhood : int, default=1
        Places, in both directions, over which features are averaged; odd. 1 takes them
        as they are.
    n_neighbors : int or None, default=1
        1 is the farthest patch itself. More multiply it by a factor, as in `PatchCore`;
        None is what `pooling` makes of the map, which is not used otherwise.

    See Also
    --------
    PatchCore : The same for any backbone, with a larger bank of averaged features.
    AnomalyDINO : For few pictures as well, on the patches of a vision transformer.

    Notes
    -----
    The graph network is the user's own, with the names of two of its stages. The
    released code [2]_ has ViG-Ti on pictures of 224 pixels, and two of its blocks::

        GraphCore(backbone=vig, layers=("backbone.3", "backbone.4"), image_size=224,
                  normalization=((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))

    The share of the bank, features without averages, the Gaussian of 4 pixels and the
    farthest patch are that code's; which blocks it taps, its files of settings do not
    say, and these are of a repetition of it by others. With another backbone it is what
    is left, PatchCore with a hundredth of its bank. With a ResNet-18, at 128 pixels,
    areas under the ROC curve of pictures / of pixels are 0.64 / 0.65 on 80 magnetic
    tiles and 1.00 / 0.66 on cookies, those of `PatchCore` 0.90 / 0.77 and 1.00 / 0.95.
    With a graph network it was not measured here.

    Departures: distances are not squared, which leaves the order of scores as it is and
    changes what smoothing does; maps are not brought to 0..1 over the test pictures;
    deeper features come to the grid of the first stage by interpolation, where the code
    repeats them, which is the same for stages of one grid such as ViG-Ti's.

    The paper is of one to eight normal pictures, and the bank is then of one or two
    patches, from 196 of each at a stride of 16. Keep more of them there:
    ``coreset_ratio=1.0`` is all. Cost and threshold are those of `PatchCore`.

    References
    ----------
    .. [1] G. Xie, J. Wang, J. Liu, F. Zheng and Y. Jin, "Pushing the limits of fewshot
       anomaly detection in industry vision: GraphCore", ICLR, 2023.
    .. [2] M-3LAB, "open-iad", GitHub, 2023, ``arch/graphcore.py``.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.image import GraphCore
    >>> rng = np.random.default_rng(0)
    >>> good = rng.normal(0.5, 0.02, size=(8, 32, 32))
    >>> bad = good[:1].copy()
    >>> bad[0, 8:12, 20:24] = 1.0
    >>> detector = GraphCore(random_state=0).fit(good)
    >>> len(detector.bank_)
    2
    >>> detector.predict(bad)
    array([-1])
    """

    coreset_ratio: float = 0.001
    neighborhood: int = 1
    n_neighbors: int | None = 1
