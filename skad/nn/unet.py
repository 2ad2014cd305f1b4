"""Networks from a shape to the same shape whose layers are joined by skips."""

import math
from itertools import pairwise

import torch
from torch import nn

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
