"""Vision transformers, tapped at some of their blocks, for pictures of one size."""

import inspect
import math
from contextlib import ExitStack
from functools import partial
from threading import get_ident

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from skad.embedding._attention import AttentionWatch
from skad.embedding._taps import (
    MOST_EXTRA_TOKENS,
    Taps,
    as_output,
    stated_patch_size,
)


class TokenTaps(Taps):
    """A vision transformer, tapped at some of its blocks.

    Parameters
    ----------
    module : Module
        The transformer.
    layers : sequence of str
        Names of blocks.
    patch : pair of int
        Height and width of a patch.
    norm : str or None
        Name of the last norm, which the tokens of every block pass.
    class_token : bool
        Whether a block's first token stands beside each of its patches.
    averaged : bool
        Whether the maps of all blocks become one, their mean.
    """

    def __init__(self, module, layers, patch, norm, class_token, averaged):
        super().__init__(module, layers)
        self.patch, self.norm = tuple(patch), norm
        self.class_token, self.averaged = class_token, averaged
        known = inspect.signature(module.forward).parameters
        # ViTModel and CLIP of transformers refuse other sizes unless told
        self.options = {
            name: True for name in ("interpolate_pos_encoding",) if name in known
        }

    def _run(self, x):
        self.module(x, **self.options)

    def tokens(self, x):
        """Return of each block the other tokens (b, e, d) and the map (b, d, gh, gw).

        Class tokens come first among the others, registers behind.
        """
        found = self.reached(x)
        return [self._parted(name, as_output(found[name]), x) for name in self.layers]

    def attended(self, x):
        """Return what `tokens` does, and how much patches are attended to, (b, gh, gw).

        That is the attention of the first token, which stands for the picture, or,
        where patches are all there is, of every patch; the mean over heads and blocks.
        """
        height, width = self._grid_of(x)
        watch, thread = AttentionWatch(len(x), height * width), get_ident()

        def begin(name, module, args):
            if get_ident() == thread:
                watch.block = name

        with ExitStack() as stack:
            for name in self.layers:
                block = self.module.get_submodule(name)
                handle = block.register_forward_pre_hook(partial(begin, name))
                stack.callback(handle.remove)
            stack.enter_context(watch)
            tokens = self.tokens(x)
        missing = [name for name in self.layers if name not in watch.found]
        if missing:
            raise ValueError(
                f"Blocks {missing} of the backbone do not attend by a softmax of "
                "tokens by tokens: what they attend to is not known."
            )
        found = [watch.found[name] for name in self.layers]
        return tokens, torch.stack(found).mean(0).unflatten(1, (height, width))

    def _grid_of(self, x):
        """Return the rows and columns of patches of pictures (b, c, h, w)."""
        return tuple(n // p for n, p in zip(x.shape[-2:], self.patch, strict=True))

    def _parted(self, name, tokens, x):
        if not isinstance(tokens, torch.Tensor) or tokens.ndim != 3:
            kind = tuple(getattr(tokens, "shape", ())) or type(tokens).__name__
            raise ValueError(
                f"Block {name!r} of the backbone gives {kind}, not tokens (b, t, d): "
                "PatchEmbedding taps networks that are no vision transformers."
            )
        height, width = self._grid_of(x)
        n_extra = tokens.shape[1] - height * width
        if not 0 <= n_extra <= MOST_EXTRA_TOKENS:
            raise ValueError(
                f"{tokens.shape[1]} tokens of block {name!r} make no grid of "
                f"{height} x {width} patches of {self.patch[0]} x {self.patch[1]}."
            )
        if self.norm is not None:
            tokens = self.module.get_submodule(self.norm)(tokens)
        patches = tokens[:, n_extra:].mT.unflatten(2, (height, width))
        return tokens[:, :n_extra], patches

    def forward(self, x):
        """Return the maps (b, d, gh, gw) of the blocks, or their mean, in a list."""
        maps = []
        for others, patches in self.tokens(x):
            if self.class_token:
                first = class_of(others)[..., None, None]
                beside = first.expand(-1, -1, *patches.shape[2:])
                patches = torch.cat([patches, beside], 1)
            maps.append(patches)
        return [torch.stack(maps).mean(0)] if self.averaged else maps


def class_of(others):
    """Return the class token (b, d) of the tokens (b, e, d) that are no patches."""
    if others.shape[1] == 0:
        raise ValueError("class_token=True, and the backbone has patches alone.")
    return others[:, 0]


def find_blocks(module):
    """Return the names of a transformer's blocks, those of its longest list."""
    best = []
    for name, part in module.named_modules():
        if not isinstance(part, nn.ModuleList | nn.Sequential):
            continue
        of_one_type = len({type(one) for one in part}) == 1
        if of_one_type and len(part) > len(best) and list(part[0].children()):
            best = [f"{name}.{child}" for child, _ in part.named_children()]
    if not best:
        raise ValueError(
            f"A {type(module).__name__} has no list of blocks of one type, as vision "
            "transformers have."
        )
    return best


def find_norm(module, last):
    """Return the name of the first norm behind the `last` block, or None."""
    behind = False
    for name, part in module.named_modules():
        if name == last or name.startswith(f"{last}."):
            behind = True
        elif behind and "norm" in type(part).__name__.lower():
            return name
    return None


def patch_size(module):
    """Return the (height, width) of a transformer's patches."""
    stated = stated_patch_size(module)
    if stated is not None:
        return stated
    first = next((m for m in module.modules() if isinstance(m, nn.Conv2d)), None)
    if first is None or first.kernel_size != first.stride:
        raise ValueError(
            f"A {type(module).__name__} states no patch_size, and does not begin with "
            "a convolution that cuts pictures into patches."
        )
    return first.kernel_size


def for_size(module, size, grid):
    """Make a transformer, in place, take pictures of a size, a grid of patches.

    Position embeddings are interpolated, unless the module does so itself, as those of
    transformers do.

    Parameters
    ----------
    module : Module
        The transformer.
    size : pair of int
        Height and width of pictures.
    grid : pair of int
        Height and width in patches.
    """
    if hasattr(module, "set_input_size"):  # of timm
        module.set_input_size(img_size=tuple(size))
        return
    if hasattr(module, "config"):  # of transformers
        return
    for owner in module.modules():
        for name, value in list(owner.named_parameters(recurse=False)):
            if "pos" in name and value.ndim == 3 and value.shape[0] == 1:
                resampled = resample(value.detach(), grid)
                setattr(owner, name, nn.Parameter(resampled, requires_grad=False))
    if isinstance(getattr(module, "image_size", None), int):  # of torchvision
        if size[0] != size[1]:
            raise ValueError(
                f"A {type(module).__name__} takes square pictures, these are "
                f"{size[0]} x {size[1]}: pass image_size."
            )
        module.image_size = size[0]


def resample(positions, grid):
    """Return position embeddings (1, e + gh gw, d) for a grid, from a square one.

    The e others, as few as leave a square, stay as they are.
    """
    n_tokens = positions.shape[1]
    extra = next(
        e for e in range(n_tokens) if math.isqrt(n_tokens - e) ** 2 == n_tokens - e
    )
    side = math.isqrt(n_tokens - extra)
    if tuple(grid) == (side, side):
        return positions
    places = positions[:, extra:].mT.unflatten(2, (side, side))
    places = F.interpolate(places, tuple(grid), mode="bicubic").flatten(2).mT
    return torch.cat([positions[:, :extra], places], 1)
