"""Transformers that put made defects into pictures, and say where they are."""

from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted

from skad._array import is_torch, slices
from skad._parameters import with_parameters
from skad._picture_input import check_pictures
from skad._random import Seed, generator
from skad._sklearn import (
    BaseEstimator,
    Interval,
    OneToOneFeatureMixin,
    StrOptions,
    TransformerMixin,
    _fit_context,
)
from skad._training import reproducible, seed_generators
from skad.image._base import as_tensor
from skad.nn.corruption import (
    ColourJitter,
    NoiseRectangles,
    SimplexRectangle,
    TexturePaste,
    blend,
)
from skad.nn.cut_paste import move_pieces, rectangles, scars

# What whole numbers stand for 1.
_WHOLE = {"uint8": 255, "uint16": 65535}
_SHAPES = {"rectangles": rectangles, "scars": scars}


class Corrupted(NamedTuple):
    """Altered pictures, and masks (n, h, w) that are True where they were altered."""

    pictures: Any
    masks: Any


@with_parameters
class Corruptor(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    """Base of transformers that alter pictures.

    A subclass writes `_altered(x)`, which takes pictures (b, c, h, w) and returns them
    altered, and masks (b, h, w); it draws from torch's own generator.

    Parameters
    ----------
    clean_share : float, default=0.0
        Probability that a picture stays as it is.
    image_shape : tuple of int or None, default=None
        (height, width) or (height, width, channels) of pictures that come as rows.
    batch_size : int, default=32
        Pictures that are altered together; what is taken from other pictures is from
        these.
    random_state : int, RandomState instance or None, default=None
        Draws what is done. With an int each call alters the same pictures in the same
        way; with an instance, or None, another call alters them otherwise.

    Attributes
    ----------
    image_shape_ : tuple of int
        (height, width, channels) of the pictures.
    n_features_in_ : int
        Number of elements of a picture.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, where `X` has string names.
    """

    clean_share: float = 0.0
    image_shape: Sequence[int] | None = None
    batch_size: int = 32
    random_state: Seed = None

    _parameter_constraints = {
        "clean_share": [Interval(Real, 0, 1, closed="both")],
        "image_shape": [tuple, list, None],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
    }

    def _altered(self, x):
        """Return altered pictures (b, c, h, w), and masks (b, h, w)."""
        raise NotImplementedError

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None) -> Self:
        """Learn the shape of pictures.

        Parameters
        ----------
        X : array, tensor, sequence of paths or PictureFiles
            Pictures, of which only the shape matters.
        y : object
            Ignored.

        Returns
        -------
        self : object
            The fitted transformer.
        """
        check_pictures(self, X, reset=True, any_values=True)
        return self

    def transform(self, X) -> Any:
        """Return altered pictures.

        Parameters
        ----------
        X : array, tensor, sequence of paths or PictureFiles
            Pictures.

        Returns
        -------
        pictures : ndarray or tensor
            In the shape and the dtype of `X`; floats (n, h, w, c) for files.
        """
        return self.corrupt(X).pictures

    def corrupt(self, X) -> Corrupted:
        """Return altered pictures, and where they were altered.

        Parameters
        ----------
        X : array, tensor, sequence of paths or PictureFiles
            Pictures.

        Returns
        -------
        pictures : ndarray or tensor
            As `transform` returns them.
        masks : ndarray or tensor of bool, of shape (n_images, height, width)
            Where. Pixels that are outside are as they were.
        """
        check_is_fitted(self)
        given = check_pictures(self, X, reset=False, any_values=True)
        seed = generator(self.random_state).randint(2**31 - 1)
        device = given.device if is_torch(given) else "cpu"
        with torch.no_grad(), reproducible(device):
            seed_generators(seed, device)
            parts = [
                self._part(as_tensor(given[rows]))
                for rows in slices(given.shape[0], self.batch_size)
            ]
        pictures, masks = (torch.cat(each) for each in zip(*parts, strict=True))
        pictures = _as_given(pictures, X)
        if is_torch(X):
            return Corrupted(pictures, masks)
        return Corrupted(pictures.numpy(), masks.numpy())

    def _part(self, x):
        """Return altered pictures (b, h, w, c), in their range of values, and masks."""
        x = x.permute(0, 3, 1, 2)
        seen, mask = self._altered(x)
        mask = (
            mask & (torch.rand(len(x)) >= self.clean_share).to(x.device)[:, None, None]
        )
        seen = seen.clamp(min(0, float(x.min())), max(1, float(x.max())))
        return torch.where(mask[:, None], seen, x).permute(0, 2, 3, 1), mask

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.non_deterministic = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        tags.input_tags.sparse = True
        return tags


def _as_given(pictures, X):
    """Return pictures (n, h, w, c) in the form of `X`."""
    largest = _WHOLE.get(str(getattr(X, "dtype", "")).removeprefix("torch."))
    if largest is not None:
        kind = X.dtype if is_torch(X) else getattr(torch, str(X.dtype))
        pictures = (pictures * largest).round().clamp(0, largest).to(kind)
    n_axes = getattr(X, "ndim", 2)
    if isinstance(X, list | tuple):
        n_axes = 1 + np.ndim(X[0])
    if n_axes == 2:
        return pictures.flatten(1)
    return pictures[..., 0] if n_axes == 3 else pictures


@with_parameters
class PastedTextures(Corruptor):
    """Puts textures of other pictures into places that Perlin noise draws.

    Smooth noise with cells of random size, turned at random, says where: where it
    exceeds a threshold. There a texture is blended over the picture: another picture of
    the same batch, cut into bands that change places, half of them inverted, with
    another brightness, contrast or saturation [1]_.

    Read more in the :ref:`User Guide <image>`.

    Parameters
    ----------
    most_left : float, default=0.8
        What is left of the picture in these places is drawn evenly from 0 to this.
    threshold : float, default=0.5
        What the noise exceeds there, in -1..1: less makes larger places.

    See Also
    --------
    MovedPieces : Pieces of pictures with straight edges.
    NoisyRectangles : Noise.
    DeSTSeg : Learns from pictures with such textures.

    Notes
    -----
    The authors take the textures from a set of their own. A picture that is alone in
    its batch gets a texture of itself.

    References
    ----------
    .. [1] V. Zavrtanik, M. Kristan and D. Skočaj, "DRAEM: a discriminatively trained
       reconstruction embedding for surface anomaly detection", ICCV, 2021, section 3.3.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.image import PastedTextures
    >>> X = np.random.default_rng(0).uniform(size=(6, 32, 32))
    >>> pasted = PastedTextures(random_state=0).fit(X)
    >>> pictures, masks = pasted.corrupt(X)
    >>> bool((pictures[~masks] == X[~masks]).all())
    True
    >>> bool((pictures == pasted.transform(X)).all())
    True
    """

    most_left: float = 0.8
    threshold: float = 0.5

    _parameter_constraints = {
        "most_left": [Interval(Real, 0, 1, closed="both")],
        "threshold": [Interval(Real, -1, 1, closed="neither")],
    }

    def _altered(self, x):
        return TexturePaste(self.most_left, self.threshold)(x)


@with_parameters
class MovedPieces(Corruptor):
    """Puts a piece of a picture elsewhere, as CutPaste does.

    The piece is a rectangle of .02 to .15 of the picture, or a scar, thin and turned by
    up to 45 degrees. Its brightness, contrast or saturation changes by up to a tenth
    [1]_.

    Read more in the :ref:`User Guide <image>`.

    Parameters
    ----------
    shape : {"rectangles", "scars"}, default="rectangles"
        What pieces look like.
    source : {"same", "other"}, default="same"
        Whether a piece comes from the picture itself or from another one of the batch.
    most_left : float, default=0.0
        What is left of the picture under the piece is drawn evenly from 0 to this; 0
        pastes, and 1 with ``source="other"`` blends as foreign patch interpolation does
        [2]_.

    See Also
    --------
    PastedTextures : Places of any form.
    skad.self_supervised.CutPaste : Learns to tell such pictures from whole ones.

    Notes
    -----
    Sizes of scars are meant for 256 pixels and smaller in proportion. Foreign patch
    interpolation leaves a patch where it was; here it comes from another place.

    References
    ----------
    .. [1] C.-L. Li, K. Sohn, J. Yoon and T. Pfister, "CutPaste: self-supervised
       learning for anomaly detection and localization", CVPR, 2021.
    .. [2] J. Tan, B. Hou, J. Batten, H. Qiu and B. Kainz, "Detecting outliers with
       foreign patch interpolation", Machine Learning for Biomedical Imaging, 2022.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.image import MovedPieces
    >>> X = np.random.default_rng(0).uniform(size=(6, 32, 32))
    >>> pictures, masks = MovedPieces(random_state=0).fit(X).corrupt(X)
    >>> bool(((masks.mean(axis=(1, 2)) > 0.01) & (masks.mean(axis=(1, 2)) < 0.2)).all())
    True
    """

    shape: str = "rectangles"
    source: str = "same"
    most_left: float = 0.0

    _parameter_constraints = {
        "shape": [StrOptions(set(_SHAPES))],
        "source": [StrOptions({"same", "other"})],
        "most_left": [Interval(Real, 0, 1, closed="both")],
    }

    def _altered(self, x):
        source = ColourJitter(0.1)(x)
        if self.source == "other":
            source = source.roll(1, 0)
        moved, mask = move_pieces(x, source, _SHAPES[self.shape](x.shape))
        return blend(x, moved, mask, self.most_left * torch.rand(len(x))), mask


@with_parameters
class NoisyRectangles(Corruptor):
    """Puts rectangles of noise into pictures.

    White noise replaces up to four rectangles of a picture, each number as often, with
    half sides of a fortieth to a tenth of the picture's [1]_; or smooth noise is added
    to one, with sides of 10 pixels to an eighth of the picture's [2]_.

    Read more in the :ref:`User Guide <image>`.

    Parameters
    ----------
    noise : {"white", "simplex"}, default="white"
        Which.

    See Also
    --------
    PastedTextures : Textures of other pictures.
    CDO : Learns from white noise.
    RDPlusPlus : Learns from simplex noise.

    References
    ----------
    .. [1] Y. Cao, X. Xu, Z. Liu and W. Shen, "Collaborative discrepancy optimization
       for reliable image anomaly localization", IEEE Transactions on Industrial
       Informatics, 2023.
    .. [2] T. D. Tien et al., "Revisiting reverse distillation for anomaly detection",
       CVPR, 2023.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.image import NoisyRectangles
    >>> X = np.full((6, 32, 32), 0.5)
    >>> pictures, masks = NoisyRectangles(random_state=0).fit(X).corrupt(X)
    >>> bool((masks == (pictures != X)).all())
    True
    """

    noise: str = "white"

    _parameter_constraints = {"noise": [StrOptions({"white", "simplex"})]}

    def _altered(self, x):
        made = NoiseRectangles if self.noise == "white" else SimplexRectangle
        return made()(x)
