"""Generators that restore pictures of any size, and a critic of their places.

Convolutions of 4 x 4 pixels halve a picture, as those of pix2pix do; along an axis of
one pixel they have one.
"""

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from skad.nn.adversarial import SpectralNorm
from skad.nn.residual import Norm


def shrinking(into, out, size, stride=2, bias=True):
    """Return a convolution of 4 x 4 pixels, and the size (h, w) of its maps.

    Parameters
    ----------
    into, out : int
        Channels.
    size : pair of int
        Height and width of what it takes.
    stride : int, default=2
        2 halves the size, rounded down; 1 takes a pixel off.
    bias : bool, default=True
        Whether it has a bias.
    """
    kernel, steps, margin = zip(
        *((4, stride, 1) if n > 1 else (1, 1, 0) for n in size), strict=True
    )
    after = tuple((n - 2) // stride + 1 if n > 1 else 1 for n in size)
    return nn.Conv2d(into, out, kernel, steps, margin, bias=bias), after


def growing(into, out, size, bias=True):
    """Return a transposed convolution of 4 x 4 pixels that leads back to a size.

    From the maps of a `shrinking` one with a stride of 2.
    """
    kernel, steps, margin = zip(
        *((4, 2, 1) if n > 1 else (1, 1, 0) for n in size), strict=True
    )
    missing = tuple(n % 2 if n > 1 else 0 for n in size)
    return nn.ConvTranspose2d(into, out, kernel, steps, margin, missing, bias=bias)


class PlaceNorm(nn.Module):
    """Brings each channel of each picture to mean 0 and variance 1 over its places.

    Ulyanov, Vedaldi and Lempitsky, "Instance normalization: the missing ingredient for
    fast stylization", 2016. A single place stays as it is.
    """

    def forward(self, x):
        """Normalise (b, c, h, w) over h and w."""
        if x.shape[2] * x.shape[3] == 1:
            return x
        return F.group_norm(x, x.shape[1])  # exports with any number of pictures


class SkipGenerator(nn.Module):
    """The U-shaped generator of pix2pix, down to a pixel and up again.

    Isola, Zhu, Zhou and Efros, "Image-to-image translation with conditional adversarial
    networks", CVPR, 2017, section 6.1.1. What it returns has no bound yet.

    Parameters
    ----------
    input_shape : tuple of int
        (c, h, w) of pictures.
    out : int
        Channels of what it makes.
    channels : int, default=64
        Of the first layer; each further one has twice as many, up to eight times.
    dropout : float, default=0.0
        Share of the values that training sets to 0 behind up to three layers on the
        way up, those next to the innermost.
    skips : bool, default=True
        Whether layers on the way up see what those on the way down have said as well.
        Without, all goes through one code.
    """

    def __init__(self, input_shape, out, channels=64, dropout=0.0, skips=True):
        super().__init__()
        self.skips = skips
        into, *size = input_shape
        sizes, self.widths = [tuple(size)], []
        down = []
        while max(sizes[-1]) > 1 or not down:
            width = channels * min(8, 2 ** len(down))
            layer, after = shrinking(into, width, sizes[-1])
            last = max(after) == 1
            plain = last or not down
            before = [nn.LeakyReLU(0.2)] if down else []
            down.append(
                nn.Sequential(*before, layer, *([] if plain else [Norm(width)]))
            )
            sizes.append(after)
            self.widths.append(width)
            into = width
        up = []
        for i, width in enumerate(self.widths):
            joined = width * (1 if i == len(self.widths) - 1 or not skips else 2)
            made = self.widths[i - 1] if i else out
            layers = [nn.ReLU(), growing(joined, made, sizes[i])]
            if i:
                inner = dropout and 0 < len(self.widths) - 1 - i <= 3
                layers += [Norm(made), *([nn.Dropout(dropout)] if inner else [])]
            up.append(nn.Sequential(*layers))
        self.down, self.up = nn.ModuleList(down), nn.ModuleList(up)

    def forward(self, x):
        """Map (b, c, h, w) to (b, out, h, w)."""
        seen = []
        for layer in self.down:
            x = layer(x)
            seen.append(x)
        return self.rise(seen)

    def rise(self, seen):
        """Return what is made of the maps of all layers down, (b, out, h, w)."""
        x = self.up[-1](seen[-1])
        for layer, across in zip(self.up[-2::-1], seen[-2::-1], strict=True):
            x = layer(torch.cat([across, x], dim=1) if self.skips else x)
        return x


class Padded(nn.Module):
    """A convolution on a picture with a margin, mirrored where that is wide enough.

    Along an axis of one pixel it has one, and no margin.

    Parameters
    ----------
    into, out : int
        Channels.
    size : pair of int
        Height and width of what it takes, and returns.
    side : int
        Pixels of the kernel, odd.
    dilation : int, default=1
        Pixels from one of these to the next.
    zeros : bool, default=False
        Whether the margin is of zeros instead.
    """

    def __init__(self, into, out, size, side, dilation=1, zeros=False):
        super().__init__()
        kernel = tuple(side if n > 1 else 1 for n in size)
        self.layer = nn.Conv2d(into, out, kernel, dilation=dilation)
        rows, columns = (dilation * (n // 2) for n in kernel)
        self.margin = columns, columns, rows, rows
        fits = rows < size[0] and columns < size[1]
        self.mode = "reflect" if fits else "replicate"
        self.mode = "constant" if zeros else self.mode

    def forward(self, x):
        """Map (b, c, h, w) to (b, out, h, w)."""
        return self.layer(F.pad(x, self.margin, mode=self.mode))


class DilatedResidual(nn.Module):
    """A residual block whose first convolution leaves every second pixel out."""

    def __init__(self, channels, size):
        super().__init__()
        self.body = nn.Sequential(
            *(Padded(channels, channels, size, 3, dilation=2), PlaceNorm(), nn.ReLU()),
            *(Padded(channels, channels, size, 3), PlaceNorm()),
        )

    def forward(self, x):
        """Return maps (b, c, h, w)."""
        return x + self.body(x)


class InpaintingGenerator(nn.Module):
    """Fills in what is missing: three halvings, residual blocks, and back.

    Nazeri et al., "EdgeConnect: generative image inpainting with adversarial edge
    learning", ICCV workshops, 2019, section 3.2, with a halving more, as SCADN has it.
    Sides below four pixels are not halved: norms of a single place would tell nothing.
    What it returns has no bound yet.

    Parameters
    ----------
    shape : tuple of int
        (c, h, w) of pictures.
    channels : int, default=64
        Of the first layer; each halving doubles them.
    n_blocks : int, default=8
        Residual blocks in the middle.
    """

    def __init__(self, shape, channels=64, n_blocks=8):
        super().__init__()
        c, *size = shape
        self.sizes = [tuple(size)]
        layers = [Padded(c, channels, size, 7), PlaceNorm(), nn.ReLU()]
        width = channels
        while len(self.sizes) <= 3 and max(self.sizes[-1]) >= 4:
            layer, after = shrinking(width, 2 * width, self.sizes[-1])
            layers += [layer, PlaceNorm(), nn.ReLU()]
            self.sizes.append(after)
            width *= 2
        layers += [DilatedResidual(width, self.sizes[-1]) for _ in range(n_blocks)]
        self.inner = nn.Sequential(*layers)
        self.up = nn.ModuleList(
            nn.Sequential(
                Padded(2 * width, width, size, 3, zeros=True),
                *(PlaceNorm(), nn.ReLU()),
            )
            for width, size in reversed(
                [(channels * 2**i, each) for i, each in enumerate(self.sizes[:-1])]
            )
        )
        self.last = Padded(channels, c, size, 7)

    def forward(self, x):
        """Map (b, c, h, w) to the same shape."""
        x = self.inner(x)
        for layer, size in zip(self.up, self.sizes[-2::-1], strict=True):
            x = layer(F.interpolate(x, size=size, mode="nearest"))
        return self.last(x)


class PatchCritic(nn.Module):
    """Tells real patches from made ones, by convolutions alone.

    The critic of pix2pix: logits of patches of 70 x 70 pixels where pictures are large
    enough.

    Parameters
    ----------
    input_shape : tuple of int
        (c, h, w) of pictures.
    channels : int, default=64
        Of the first layer; each further one has twice as many.
    spectral : bool, default=False
        Whether weights are divided by their largest singular value. Otherwise the
        layers between have a `PlaceNorm`.
    """

    def __init__(self, input_shape, channels=64, spectral=False):
        super().__init__()
        into, *size = input_shape
        layers = []
        for i, stride in enumerate((2, 2, 2, 1)):
            layer, size = shrinking(into, channels * 2**i, size, stride, not spectral)
            norm = [] if spectral or not i else [PlaceNorm()]
            layers += [layer, *norm, nn.LeakyReLU(0.2)]
            into = channels * 2**i
        last = shrinking(into, 1, size, 1, not spectral)[0]
        wrap = SpectralNorm if spectral else nn.Identity
        self.body, self.last = (
            wrap(each) if spectral else each for each in (nn.Sequential(*layers), last)
        )

    def forward(self, x):
        """Return the logits (b, 1, gh, gw) of patches, and the features below them."""
        features = self.body(x)
        return self.last(features), features


class EncoderCritic(nn.Module):
    """Halves a picture down to four pixels, and describes it by a hundred numbers."""

    def __init__(self, shape, channels, feature_size=100):
        super().__init__()
        into, *size = shape
        layers = []
        while max(size) > 4 or not layers:
            out = channels * 2 ** (len(layers) // 2)
            layer, size = shrinking(into, out, size, bias=False)
            layers += [layer, nn.LeakyReLU(0.2)]
            into = out
        layers.append(nn.Conv2d(into, feature_size, tuple(size), bias=False))
        self.features = nn.Sequential(*layers, nn.Flatten())
        self.head = nn.Linear(feature_size, 1, bias=False)

    def forward(self, x):
        """Return logits (b,) and features (b, k) of pictures."""
        features = self.features(x)
        return self.head(features)[:, 0], features
