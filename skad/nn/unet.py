"""Networks from a shape to the same shape whose layers are joined by skips."""

import math
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from skad.nn.architecture import MLP, NAMED, Conv


class UNet(nn.Module):
    """Strided convolutions down and up again; each size hands its channels across.

    Ronneberger, Fischer and Brox, "U-Net: convolutional networks for biomedical image
    segmentation", MICCAI, 2015, with one convolution per size. Any height and width is
    allowed: the way up takes the sizes of the way down.

    Parameters
    ----------
    input_shape, output_shape : tuple of int
        (c, h, w), with one height and width.
    hidden_sizes : sequence of int, default=(32, 64, 128)
        Channels of the layers down; each halves the height and width above one.
    bias : bool, default=True
        Whether layers have bias terms.
    """

    def __init__(
        self, input_shape, output_shape, hidden_sizes=(32, 64, 128), bias=True
    ):
        super().__init__()
        c = input_shape[0]
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for inside, out in pairwise((c, *hidden_sizes)):
            convolution = nn.Conv2d(inside, out, 3, stride=2, padding=1, bias=bias)
            self.down.append(_block(convolution, nn.BatchNorm2d(out, affine=bias)))
        inside = hidden_sizes[-1]
        for across in hidden_sizes[-2::-1]:
            convolution = nn.Conv2d(inside, across, 3, padding=1, bias=bias)
            self.up.append(_block(convolution, nn.BatchNorm2d(across, affine=bias)))
            inside = 2 * across
        self.last = nn.Conv2d(inside, output_shape[0], 3, padding=1, bias=bias)

    def forward(self, x):
        """Map (b, c, h, w) to (b, c of the output, h, w)."""
        seen, size = [], x.shape[-2:]
        for layer in self.down:
            x = layer(x)
            seen.append(x)
        seen.pop()
        for layer in self.up:
            across = seen.pop()
            x = layer(_resize(x, across.shape[-2:]))
            x = torch.cat([x, across], dim=1)
        return self.last(_resize(x, size))


class PooledUNet(nn.Module):
    """Two convolutions for each size, pools down and transposed convolutions up.

    Ronneberger, Fischer and Brox, "U-Net: convolutional networks for biomedical image
    segmentation", MICCAI, 2015, with zeros around, so that no border is lost. The way
    up ends where the map is not smaller than what is asked for.

    Parameters
    ----------
    n_channels : int
        Channels of pictures.
    target : tuple of int
        (c, h, w) of the map.
    size : tuple of int
        (h, w) of pictures.
    width : int, default=64
        Channels of the largest size, twice as many for each that follows.
    n_sizes : int, default=5
        Sizes, each half of the one before; fewer where one pixel is left.
    """

    def __init__(self, n_channels, target, size, width=64, n_sizes=5):
        super().__init__()
        out, *self.target = target
        self.down, self.steps, into = nn.ModuleList(), [], n_channels
        for i in range(n_sizes):
            if i and max(size) == 1:
                break
            # one pixel, as pictures of one row have, is not halved
            step = tuple(min(n, 2) if i else 1 for n in size)
            size = tuple(-(-n // k) for n, k in zip(size, step, strict=True))
            self.down.append(_two_convolutions(into, width))
            self.steps.append((step, size))
            into, width = width, 2 * width
        self.up, self.join = nn.ModuleList(), nn.ModuleList()
        for i in range(len(self.down) - 1, 0, -1):
            step, size = self.steps[i]
            if all(n >= m for n, m in zip(size, self.target, strict=True)):
                break
            self.up.append(nn.ConvTranspose2d(into, into // 2, step, step))
            self.join.append(_two_convolutions(into, into // 2))
            into //= 2
        self.last = nn.Conv2d(into, out, 1)

    def forward(self, x):
        """Return the map (b, c, h, w) of pictures (b, c, h, w)."""
        seen = []
        for (step, _), part in zip(self.steps, self.down, strict=True):
            if max(step) > 1:
                x = F.max_pool2d(x, step, ceil_mode=True)
            x = part(x)
            seen.append(x)
        seen.pop()
        for up, join in zip(self.up, self.join, strict=True):
            across = seen.pop()
            x = up(x)[..., : across.shape[2], : across.shape[3]]
            x = join(torch.cat([across, x], 1))
        x = self.last(x)
        if list(x.shape[2:]) == self.target:
            return x
        return F.interpolate(x, self.target, mode="bilinear", antialias=True)


class SkipMLP(nn.Module):
    """Linear layers down and up again; each size hands its units across.

    Parameters
    ----------
    input_shape, output_shape : tuple of int
        Without the axis of samples; anything is flattened.
    hidden_sizes : sequence of int, default=(64, 32)
        Units of the layers down.
    bias : bool, default=True
        Whether layers have bias terms.
    """

    def __init__(self, input_shape, output_shape, hidden_sizes=(64, 32), bias=True):
        super().__init__()
        self.output_shape = tuple(output_shape)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for inside, out in pairwise((math.prod(input_shape), *hidden_sizes)):
            self.down.append(_block(nn.Linear(inside, out, bias=bias)))
        inside = hidden_sizes[-1]
        for across in hidden_sizes[-2::-1]:
            self.up.append(_block(nn.Linear(inside, across, bias=bias)))
            inside = 2 * across
        self.last = nn.Linear(inside, math.prod(output_shape), bias=bias)

    def forward(self, x):
        """Map (b, *input_shape) to (b, *output_shape)."""
        x, seen = x.flatten(1), []
        for layer in self.down:
            x = layer(x)
            seen.append(x)
        seen.pop()
        for layer in self.up:
            x = torch.cat([layer(x), seen.pop()], dim=1)
        return self.last(x).reshape(x.shape[0], *self.output_shape)


def _two_convolutions(into, out):
    sizes = (into, out), (out, out)
    parts = [(nn.Conv2d(*each, 3, padding=1), nn.ReLU(inplace=True)) for each in sizes]
    return nn.Sequential(*parts[0], *parts[1])


def _block(*layers):
    return nn.Sequential(*layers, nn.LeakyReLU(0.1))


def _resize(x, size):
    return nn.functional.interpolate(x, size=size, mode="nearest")


_WITH_SKIPS = {MLP: SkipMLP, Conv: UNet}


def build_with_skips(architecture, shape, hidden_sizes=None):
    """Return a network with skips from a shape to itself.

    Parameters
    ----------
    architecture : {"auto", "mlp", "conv"} or class
        "auto" is `UNet` for images and `SkipMLP` for rows, "conv" and "mlp" name them.
        A class is called as it is.
    shape : tuple of int
        (d,) or (c, h, w).
    hidden_sizes : sequence of int or None
        None is the architecture's own default.
    """
    if architecture == "auto":
        architecture = "conv" if len(shape) == 3 else "mlp"
    if architecture == "conv" and len(shape) != 3:
        raise ValueError(
            f"architecture='conv' needs images, got shape {tuple(shape)}; use 'mlp' "
            "for rows."
        )
    made = NAMED.get(architecture, architecture)
    made = _WITH_SKIPS.get(made, made)
    arguments = {} if hidden_sizes is None else {"hidden_sizes": tuple(hidden_sizes)}
    return made(tuple(shape), tuple(shape), **arguments)
