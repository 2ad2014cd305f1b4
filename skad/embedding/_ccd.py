"""CCD: SimCLR's codes, which tell shifts of a picture and where its patches lie."""

from numbers import Integral, Real

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from skad._parameters import with_parameters
from skad._sklearn import Interval, StrOptions
from skad.embedding._learned_codes import CodesTraining, LearnedCodes, OfCodes
from skad.nn.contrast import cropped, randomly_flipped
from skad.nn.patches import AROUND, around, neighbours
from skad.nn.shifted import SHIFTS, ShiftedNetwork

# Sides of patches where none is given: a share of the picture's, and at least so many.
_SHARE, _LEAST = 8, 8


class CCDNetwork(OfCodes, ShiftedNetwork):
    """A contrastive network with a head for shifts, and one for places of patches."""

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
        position_weight,
        patch_size,
    ):
        encoder = architecture, hidden_sizes, code_size, projection_size
        super().__init__(shape, *encoder, temperature, least_crop, shift)
        smaller = min(shape[1:])
        if patch_size is None:
            patch_size = min(max(_LEAST, smaller // _SHARE), -(-smaller // 2))
        if patch_size > smaller:
            raise ValueError(
                f"patch_size={patch_size} is more than pictures of {shape[1]} x "
                f"{shape[2]} pixels have."
            )
        self.position_weight, self.patch_size = position_weight, patch_size
        self.size = tuple(shape[1:])
        self.position = nn.Sequential(
            nn.Linear(code_size, projection_size),
            nn.ReLU(),
            nn.Linear(projection_size, len(AROUND)),
        )

    def patch_codes(self, patches):
        """Return the codes of patches, brought to the size of pictures as views are."""
        return self.encoder(F.interpolate(patches, self.size, mode="bilinear"))

    def drawn(self, x):
        """Return a patch of each picture, one around it, and which of the eight.

        Both are seen as views are, cropped and flipped, but in their own colours. Of
        pictures that are held out nothing is drawn: it is the middle and all around.
        """
        if not self.training:
            return around(x, self.patch_size)
        *pair, way = neighbours(x, torch.arange(len(x)), self.patch_size)
        views = (cropped(one, self.views.crops(len(one))) for one in pair)
        return *map(randomly_flipped, views), way

    def position_loss(self, first, other, way):
        """Return the cross-entropy of where patches (m, c, k, k) lie, of eight ways."""
        first, other = self.patch_codes(torch.cat([first, other])).chunk(2)
        return F.cross_entropy(self.position(first - other), way.to(first.device))

    def loss(self, x, y):
        """Return the contrast, and the cross-entropies of shifts and of places."""
        found = super().loss(x, y)
        if not self.position_weight:
            return found
        return found + self.position_weight * self.position_loss(*self.drawn(x))


@with_parameters
class CCDParameters:
    r"""What the transformer and its training have beside what contrasts share.

    Parameters
    ----------
    shift : {"halves", "turns"} or None, default="halves"
        What makes other pictures: upper and lower halves that change places, left and
        right ones, and both; or turns by quarters, for pictures that are not as usual
        when turned. None is nothing.
    position_weight : float, default=1.0
        Weight :math:`\lambda` of the places of patches; 0 leaves them out.
    patch_size : int or None, default=None
        Side of the patches in pixels. None is an eighth of the picture's smaller side,
        but at least 8 and at most half of it.
    """

    shift: str | None = "halves"
    position_weight: float = 1.0
    patch_size: int | None = None

    _parameter_constraints = {
        "shift": [StrOptions(set(SHIFTS)), None],
        "position_weight": [Interval(Real, 0, None, closed="left")],
        "patch_size": [Interval(Integral, 1, None, closed="left"), None],
    }


@with_parameters
class CCDTraining(CCDParameters, CodesTraining):
    """Trains the network of `CCD`."""

    _network_class = CCDNetwork


@with_parameters
class CCD(CCDParameters, LearnedCodes):
    r"""Codes by which views of a picture are found, and its shifts and places told.

    A network :math:`f` learns from pictures that are normal, before any detector.
    Copies of a picture that are strongly augmented, by `shift` k, count as other
    pictures. By a projection :math:`g` of its codes, at length one,
    :math:`z = g(f(v))`, the two random views of each copy (crops, other colours, flips)
    are found among those of all copies of all pictures; a head :math:`h` has to tell
    the shift of a view, and a head :math:`p` in which of eight directions j of a patch
    :math:`u_1` of the picture another one, :math:`u_2`, lies [1]_:

    .. math:: L = -\log \frac{\exp(z_i \cdot z_{i'} / \tau)}
        {\sum_{m \ne i} \exp(z_i \cdot z_m / \tau)} - \log h_k(f(v_i))
        - \lambda \log p_j\big(f(u_1) - f(u_2)\big).

    The codes of a picture are :math:`f(x)`.

    It stands before any detector of rows in a `Pipeline`, with a
    `sklearn.preprocessing.Normalizer` between; the authors' is
    `skad.one_class.IGD`. With ``net_.encoder`` as `backbone` a detector on patches such
    as `skad.image.PaDiM` has what it learned.

    Read more in the :ref:`User Guide <self_supervised>`.

    Parameters
    ----------
    temperature : float, default=0.2
        The temperature :math:`\tau`.
    max_epochs : int or "auto", default=2000
        Passes over the training pictures, with two views of each copy, and two patches
        of each picture.

    Attributes
    ----------
    net_ : torch.nn.Module
        The trained network, with its `encoder`, `projection`, `head` for shifts and
        `position` for places.

    See Also
    --------
    SimCLR : Views alone.
    skad.self_supervised.CSI : A score of views and shifts themselves.
    skad.image.PatchSVDD : Places of patches, and a score of patches.

    Notes
    -----
    With ``shift=None, position_weight=0`` it is `SimCLR`. A shift has to make another
    picture of a picture; those that do the same to pictures of a size count once.

    Of the strong augmentations of the paper holes and noise are not built. Its local
    variant, the same on patches alone, is ``fit`` on patches. Departures from the
    authors' code: there first views alone look for the second ones; batches mix copies
    of any pictures, where here a batch has all copies of its pictures; as many pairs of
    patches are drawn as copies, of one size that the encoder takes, where here patches
    are brought to the size of pictures, as views are. Their heads divide weights by
    lengths where no gradient flows, so that these are never trained; here they are.
    Views keep their hue, and a network of WRN-10-4 takes the place of ResNet-18.

    An epoch takes eight passes of each picture with four shifts, and two of patches.
    The defaults are for a GPU, and thousands of pictures. Of 300 pictures of a class of
    Fashion-MNIST, ``hidden_sizes=(8, 16, 32), code_size=64, lr=0.1`` learns in 10
    epochs and two minutes enough for a ROC AUC of `Mahalanobis` on codes at length one
    of .93 against other classes, mean of two; without training it is .87, and .89 by
    the distance to the mean picture. With ``lr=0.01`` ten epochs are too few.

    References
    ----------
    .. [1] Y. Tian, G. Pang, F. Liu, Y. Chen, S. H. Shin, J. W. Verjans, R. Singh and G.
       Carneiro, "Constrained contrastive distribution learning for unsupervised anomaly
       detection and localisation in medical images", MICCAI, 2021.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import Normalizer
    >>> from skad import KNN
    >>> from skad.embedding import CCD
    >>> X = np.random.default_rng(0).uniform(size=(30, 8, 8)) * np.arange(8) / 8
    >>> codes = CCD(hidden_sizes=(4,), code_size=8, max_epochs=2, random_state=0)
    >>> codes.fit_transform(X).shape
    (30, 8)
    >>> make_pipeline(codes, Normalizer(), KNN()).fit(X).score_samples(X[:2]).shape
    (2,)
    """

    temperature: float = 0.2
    least_crop: float = 0.2
    max_epochs: int | str = 2000
    lr: float = 0.01
    weight_decay: float = 3e-4

    _training_class = CCDTraining
