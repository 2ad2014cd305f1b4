"""Any module, tapped at some of its layers."""

from functools import partial
from threading import get_ident

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

# Tokens of a transformer besides those of the patches: classes and registers.
MOST_EXTRA_TOKENS = 16


def join_maps(maps, neighborhood=1, interpolation="bilinear"):
    """Return the patch features (b, gh, gw, d) of maps (b, c_l, h_l, w_l).

    Every map is averaged over `neighborhood` x `neighborhood` places (zeros beyond the
    border count, as in PatchCore), brought to the grid of the first and set beside the
    others.
    """
    joined = []
    for each in maps:
        if neighborhood > 1:
            each = F.avg_pool2d(each, neighborhood, 1, neighborhood // 2)
        if each.shape[-2:] != maps[0].shape[-2:]:
            each = F.interpolate(each, maps[0].shape[-2:], mode=interpolation)
        joined.append(each)
    return torch.cat(joined, 1).permute(0, 2, 3, 1)


class Taps(nn.Module):
    """Any module, tapped at some of its layers.

    Hooks are there only during a call, which ends as soon as all layers were reached.
    Sequences of tokens become maps. Several threads may call at once.
    """

    def __init__(self, module, layers):
        super().__init__()
        self.module, self.layers = module, tuple(layers)

    def _run(self, x):
        """Pass pictures through the module."""
        self.module(x)

    def forward(self, x):
        """Return the maps of `layers`, in their order."""
        found = self.reached(x)
        return [self._as_map(name, found[name], x) for name in self.layers]

    def reached(self, x):
        """Return what the layers return, a dict by their names."""
        found, handles, thread = {}, [], get_ident()
        try:
            for name in self.layers:
                tap = partial(self._keep, name, found, thread)
                handles.append(
                    self.module.get_submodule(name).register_forward_hook(tap)
                )
            self._run(x)
        except _Enough:
            pass
        finally:
            for handle in handles:
                handle.remove()
        missing = [name for name in self.layers if name not in found]
        if missing:
            raise ValueError(f"The backbone's forward pass never reached {missing}.")
        return found

    def _keep(self, name, found, thread, module, args, output):
        if get_ident() != thread:  # the call of another one, which has its own hooks
            return
        found.setdefault(name, output)
        if len(found) == len(set(self.layers)):
            raise _Enough

    def _as_map(self, name, output, x):
        output = as_output(output)
        if isinstance(output, torch.Tensor) and output.ndim == 4:
            return output
        if not isinstance(output, torch.Tensor) or output.ndim != 3:
            kind = tuple(getattr(output, "shape", ())) or type(output).__name__
            raise ValueError(
                f"Layer {name!r} of the backbone gives {kind}: neither a map "
                "(b, c, h, w) nor tokens (b, t, d)."
            )
        height, width = self._grid(name, output.shape[1], x.shape[-2:])
        tokens = output[:, output.shape[1] - height * width :]  # (b, gh gw, d)
        return tokens.mT.reshape(len(x), -1, height, width)

    def _grid(self, name, n_tokens, size):
        """Return the rows and columns of tokens of a picture of `size`."""
        patch = stated_patch_size(self.module)
        if patch is not None:
            height, width = (n // p for n, p in zip(size, patch, strict=True))
            if 0 < height * width <= n_tokens:
                return height, width
        for extra in range(min(n_tokens, MOST_EXTRA_TOKENS + 1)):
            height = round(((n_tokens - extra) * size[0] / size[1]) ** 0.5)
            if height and (n_tokens - extra) % height == 0:
                width = (n_tokens - extra) // height
                if width * size[0] == height * size[1]:
                    return height, width
        raise ValueError(
            f"{n_tokens} tokens of layer {name!r} make no grid over pictures of "
            f"{size[0]} x {size[1]}."
        )


def as_output(output):
    """Return the tensor of what a layer returns, which may come with others."""
    output = getattr(output, "last_hidden_state", output)
    return output[0] if isinstance(output, tuple | list) else output


class _Enough(Exception):  # noqa: N818 (no error)
    """Ends a forward pass behind the last layer that is tapped."""


def stated_patch_size(module):
    """Return the (height, width) of a transformer's patches, None where unknown."""
    for owner in ("patch_embed", "config"):
        size = getattr(getattr(module, owner, None), "patch_size", None)
        if size is not None:
            return (size, size) if isinstance(size, int) else tuple(size)
    return None
