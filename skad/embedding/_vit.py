"""From pictures to the tokens of their patches in a vision transformer."""

import os
from collections.abc import Sequence
from numbers import Integral

from torch import nn
from torch.nn import functional as F  # noqa: N812

from skad._needed import LIBRARIES
from skad._parameters import KW_ONLY, with_parameters
from skad._sklearn import Interval, StrOptions
from skad.embedding._backbones import HALF, Backbone, given_module, n_channels_of
from skad.embedding._libraries import IMAGENET, from_library, processor_norms
from skad.embedding._pictures import BackboneEmbedding
from skad.embedding._tokens import (
    TokenTaps,
    class_of,
    find_blocks,
    find_norm,
    for_size,
    patch_size,
)

# What OpenAI's CLIP was trained with.
_CLIP = (
    (0.48145466, 0.4578275, 0.40821073),
    (0.26862954, 0.26130258, 0.27577711),
)
# By the beginning of a configuration's model_type. Models of type "vit" differ.
_NORMS = {"dinov2": IMAGENET, "dinov3": IMAGENET, "clip": _CLIP, "siglip": HALF}


@with_parameters(kw_only=False)
class ViTEmbedding(BackboneEmbedding):
    """Features of the patches of pictures, from the blocks of a vision transformer.

    A picture is resized, normalised as the transformer expects it, and cut into
    patches. What each of the chosen blocks says of a patch, its token, becomes a map;
    the tokens of the class and of registers are left out, unless they are asked for.
    The blocks stand beside one another, or are averaged [1]_. Nothing is learned.

    It stands wherever a `PatchEmbedding` does: ``embedding=`` of the detectors on
    pictures.

    Read more in the :ref:`User Guide <image>`.

    Parameters
    ----------
    backbone : module, class or str, default=None
        Has to be given. A vision transformer: `Dinov2Model`,
        `Dinov2WithRegistersModel`, `DINOv3ViTModel`, `ViTModel` (DINO's),
        `CLIPVisionModel`, `CLIPModel` and the like of transformers, `VisionTransformer`
        of timm and of torchvision, or a `torch.nn.Module` of your own whose longest
        list of parts are the blocks; is copied. A class is called without arguments.
        "transformers/FOLDER" is a folder that `save_pretrained` wrote, "timm/NAME" and
        "torchvision/NAME" are built by the library.
    layers : tuple of int or None, default=None
        Numbers of the blocks, 0 the first, -1 the last. None is the last.
    image_size : int, tuple of int or None, default=None
        Height and width that pictures are resized to; None keeps their size. A side
        that is no multiple of the patch's becomes the largest multiple below, at least
        one patch: the whole picture is resized, nothing is cut off or added.
    normalization : "auto", tuple or None, default="auto"
        (mean, std) of pictures in 0..1, numbers or one for each channel. "auto" is that
        of the processor in the model's folder, what DINOv2, DINOv3, CLIP, SigLIP and
        the models of timm and torchvision were trained with, and nothing for modules of
        your own; other models of transformers want it stated, as
        ``(processor.image_mean, processor.image_std)``. Floats around 0, which were
        normalised already, are left as they are. None is nothing.
    norm : bool, default=True
        Whether tokens of every block pass the norm that stands behind the last one, as
        in DINOv2's intermediate layers.
    class_token : bool, default=False
        Whether the class token of a block stands beside each of its patches.
    combine : {"joined", "mean"}, default="joined"
        Whether blocks stand beside one another or are averaged.
    neighborhood : int, default=1
        Side of the square of places that are averaged, odd; 1 averages nothing.
    compile : bool, default=False
        Whether torch compiles the backbone.

    Attributes
    ----------
    backbone_ : torch.nn.Module
        The frozen transformer: takes pictures (b, c, h, w) and returns the list of
        maps.
    layers_ : tuple of str
        Names of the blocks in the backbone.
    patch_size_ : tuple of int
        Height and width of a patch.

    See Also
    --------
    PatchEmbedding : The layers of a convolutional network.

    Notes
    -----
    Position embeddings are interpolated to the grid of the pictures: by the models of
    transformers and timm themselves, in other modules, whose embeddings are for a
    square grid, by bicubic interpolation. torchvision's take square pictures only.
    Pictures are resized bilinearly, where processors of DINOv2 and CLIP resize
    bicubically and cut out the centre: here nothing of a picture is left unseen.

    The transformer computes in float32 whatever its weights and the pictures are, and
    the features come in the dtype of the pictures.

    References
    ----------
    .. [1] M. Oquab et al., "DINOv2: learning robust visual features without
       supervision", Transactions on Machine Learning Research, 2024.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> from skad.embedding import ViTEmbedding
    >>> class Tiny(torch.nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.patches = torch.nn.Conv2d(3, 16, 8, stride=8)
    ...         block = torch.nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    ...         self.blocks = torch.nn.TransformerEncoder(block, 3).layers
    ...
    ...     def forward(self, x):
    ...         tokens = self.patches(x).flatten(2).mT
    ...         for block in self.blocks:
    ...             tokens = block(tokens)
    ...         return tokens
    >>> pictures = np.zeros((2, 64, 100), np.uint8)
    >>> ViTEmbedding(Tiny, layers=(1, 2)).fit_transform(pictures).shape
    (2, 8, 12, 32)
    """

    backbone: nn.Module | type | str | None = None
    layers: Sequence[int] | None = None
    _: KW_ONLY
    norm: bool = True
    class_token: bool = False
    combine: str = "joined"
    neighborhood: int = 1
    compile: bool = False

    _parameter_constraints = {
        "backbone": [str, os.PathLike, nn.Module, type, None],
        "neighborhood": [Interval(Integral, 1, None, closed="left")],
        "compile": ["boolean"],
        "norm": ["boolean"],
        "class_token": ["boolean"],
        "combine": [StrOptions({"joined", "mean"})],
    }

    @property
    def input_size(self):
        """Height and width of pictures as the transformer takes them."""
        wanted = super().input_size
        return tuple(
            max(1, n // p) * p for n, p in zip(wanted, self.patch_size_, strict=True)
        )

    def tokens(self, x):
        """Return of each block the class token (b, d) and the map of patches.

        Parameters
        ----------
        x : tensor of shape (b, h, w, c)
            Pictures, floats in 0..1.

        Returns
        -------
        tokens : list of (tensor or None, tensor)
            Class token of shape (b, d), None where the transformer has none, and map of
            shape (b, d, gh, gw), in the order of `layers_`.
        """
        return _parted(self._computed(x, "tokens"), x.dtype)

    def attended(self, x):
        """Return what `tokens` does, and how much each patch is attended to.

        Parameters
        ----------
        x : tensor of shape (b, h, w, c)
            Pictures, floats in 0..1.

        Returns
        -------
        tokens : list of (tensor or None, tensor)
            As `tokens` returns them.
        attention : tensor of shape (b, gh, gw)
            Of the class token, or of all patches where the transformer has no other
            tokens, to each patch; the mean over heads and over the blocks.
        """
        tokens, attention = self._computed(x, "attended")
        return _parted(tokens, x.dtype), attention.to(x.dtype)

    def _resized(self, x):
        x = x.permute(0, 3, 1, 2)
        if x.shape[-2:] != self.input_size:
            x = F.interpolate(x, self.input_size, mode="bilinear", antialias=True)
        return x

    def _resolved(self):
        module, norms = _transformer(self.backbone, self.weights)
        blocks = find_blocks(module)
        n_blocks = len(blocks)
        layers = (-1,) if self.layers is None else tuple(self.layers)
        if not layers or not all(
            isinstance(i, Integral) and -n_blocks <= i < n_blocks for i in layers
        ):
            raise ValueError(
                f"layers={layers} must be numbers of blocks, from {-n_blocks} to "
                f"{n_blocks - 1}."
            )
        names = tuple(blocks[i] for i in layers)
        self.patch_size_ = tuple(patch_size(module))
        size = self.input_size
        grid = tuple(n // p for n, p in zip(size, self.patch_size_, strict=True))
        for_size(module, size, grid)
        module.eval().requires_grad_(False)
        norm = find_norm(module, blocks[-1]) if self.norm else None
        averaged = self.combine == "mean"
        taps = TokenTaps(
            module, names, self.patch_size_, norm, self.class_token, averaged
        )
        return Backbone(taps.eval(), names, n_channels_of(module), norms)


def _parted(blocks, dtype):
    """Return the class token, or None, and the map of each block, in a dtype."""
    return [
        (class_of(others).to(dtype) if others.shape[1] else None, patches.to(dtype))
        for others, patches in blocks
    ]


def _transformer(backbone, weights):
    """Return a transformer of pictures, and its normalization, None if unknown."""
    if backbone is None or isinstance(backbone, str | os.PathLike):
        if str(backbone).split("/")[0] not in LIBRARIES:
            raise ValueError(
                f"backbone={backbone!r} is unknown. Pass 'transformers/FOLDER', "
                "'timm/NAME', 'torchvision/NAME', or a torch.nn.Module."
            )
        module, norms = from_library(backbone, weights)
    else:
        module, norms = given_module(backbone, weights)
    if hasattr(module, "vision_model") and hasattr(module, "text_model"):
        module = module.vision_model
    config = getattr(module, "config", None)
    if config is None:  # of timm, of torchvision, or the user's own
        return module, (None, None) if norms is None else norms
    kind = getattr(config, "model_type", "")
    if norms is None and getattr(config, "_name_or_path", ""):
        norms = processor_norms(config._name_or_path)
    if norms is None:
        norms = next((_NORMS[name] for name in _NORMS if kind.startswith(name)), None)
    return module, norms
