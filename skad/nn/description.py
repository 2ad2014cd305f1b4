"""Small networks that describe patches, and those that do by way of one short code.

Those of EfficientAD, of uninformed students and of GCAD, with the sizes of the papers'
tables; they work at any size of picture.
"""

import re

from torch import nn
from torch.nn import functional as F  # noqa: N812

# Of each layer: kernel, zeros around the picture where there are any, and channels in
# units of the first layer's. None is an average pool of 2 x 2; 0 channels the output.
SIZES = {
    "small": ((4, 3, 1), (None, 1, 1), (4, 3, 2), (None, 1, 1), (3, 1, 2), (4, 0, 0)),
    "medium": (
        *((4, 3, 1), (None, 1, 1), (4, 3, 2), (None, 1, 1)),
        *((1, 0, 2), (3, 1, 2), (4, 0, 0), (1, 0, 0)),
    ),
}
WIDTHS = {"small": 128, "medium": 256}
# Of patches of a nominal size: kernels, channels in units of the first layer's, 0 for
# the output. None is the largest of 2 x 2.
PATCHES = {
    17: ((6, 1), (5, 2), (5, 2), (4, 0)),
    33: ((5, 1), None, (5, 2), None, (2, 2), (4, 0)),
    65: ((5, 1), None, (5, 1), None, (5, 2), None, (4, 2), (1, 0)),
}
# Sides shorter than this have zeros around them: else few places, or none, are left.
_FEWEST_PIXELS = 64


class PatchDescription(nn.Module):
    """Describes each square of 33 x 33 pixels, in steps of 4, by a few convolutions.

    Parameters
    ----------
    n_channels : int
        Channels of pictures.
    out : int
        Channels of the map.
    size : {"small", "medium"}, default="small"
        The paper's network S or M.
    width : int or None, default=None
        Channels of the first layer; None is the paper's, 128 or 256.
    """

    def __init__(self, n_channels, out, size="small", width=None):
        super().__init__()
        self.layers = SIZES[size]
        width, into = width or WIDTHS[size], n_channels
        self.convolutions = nn.ModuleList()
        for kernel, _, times in self.layers:
            if kernel is not None:
                channels = times * width or out
                self.convolutions.append(nn.Conv2d(into, channels, kernel))
                into = channels

    def forward(self, x, padded=(False, False)):
        """Return the map (b, c, gh, gw) of pictures (b, c, h, w).

        With zeros around rows or columns, which `padded` says of both, n pixels have
        about n / 4 places, else 8 fewer.
        """
        parts = iter(self.convolutions)
        for i, (kernel, zeros, _) in enumerate(self.layers):
            high, wide = (zeros if each else 0 for each in padded)
            x = F.pad(x, (wide, wide, high, high)) if high or wide else x
            x = F.avg_pool2d(x, 2) if kernel is None else next(parts)(x)
            if kernel is not None and i < len(self.layers) - 1:
                x = F.relu(x)
        return x


def needs_zeros(size):
    """Return whether a picture of a size (h, w) has zeros around rows and columns."""
    return tuple(n < _FEWEST_PIXELS for n in size)


def decoder_sizes(n):
    """Return the sizes of the decoder's maps along an axis of n pixels."""
    sizes = n // 64 - 1, n // 32, n // 16 - 1, n // 8, n // 4 - 1, n // 2 - 1
    return [max(1, size) for size in sizes]


class DensePatches(nn.Module):
    """What a network with pools says of the patch around each pixel, or every few.

    All patches go through at once: where a pool would leave out every second place of
    a patch, the layers behind it look at every second place instead. Around the picture
    are zeros.

    Parameters
    ----------
    n_channels : int
        Channels of pictures.
    out : int
        Channels of the map.
    patch_size : {17, 33, 65}
        Side of patches; of 33 pixels 32 are seen, and of 65 60.
    width : int, default=128
        Channels of the first layer.
    stride : int, default=1
        Pixels between the centres of patches.
    """

    def __init__(self, n_channels, out, patch_size, width=128, stride=1):
        super().__init__()
        self.layers, self.stride = PATCHES[patch_size], stride
        self.convolutions, into, self.seen, step = nn.ModuleList(), n_channels, 1, 1
        for layer in self.layers:
            kernel = 2 if layer is None else layer[0]
            self.seen += step * (kernel - 1)
            if layer is None:
                step *= 2
            else:
                channels = layer[1] * width or out
                self.convolutions.append(nn.Conv2d(into, channels, kernel))
                into = channels

    def forward(self, x):
        """Return the map (b, out, gh, gw) of pictures (b, c, h, w), of n / stride."""
        # patches lie around the centres of squares of as many pixels as the stride
        before = (self.seen - 1) // 2 - (self.stride - 1) // 2
        after = self.seen - 1 - before
        x = F.pad(x, (before, after, before, after))
        apart, left, parts = 1, self.stride, iter(self.convolutions)
        for i, layer in enumerate(self.layers):
            last = i == len(self.layers) - 1
            if layer is None:
                halved = left % 2 == 0
                x = F.max_pool2d(x, 2, 2 if halved else 1, dilation=apart)
                apart, left = (apart, left // 2) if halved else (2 * apart, left)
                continue
            part = next(parts)
            step = left if last else 1
            x = F.conv2d(x, part.weight, part.bias, step, dilation=apart)
            x = x if last else F.leaky_relu(x, 5e-3)
        return x


def halving_convolutions(shape, widths):
    """Return convolutions that halve pictures (c, h, w), and the shapes behind each.

    One for each of the widths, their channels; fewer where one place is left.
    """
    (into, *size), parts, shapes = shape, [], []
    for out in widths:
        if max(size) == 1:
            break
        parts.append(nn.Conv2d(into, out, *_halving(size)))
        into, size = out, [n // 2 if n > 1 else 1 for n in size]
        shapes.append((into, *size))
    return parts, shapes


def _halving(size):
    """Return kernel, stride and zeros of a convolution that halves a size (h, w)."""
    # one pixel, as pictures of one row have, cannot be halved
    return zip(*((4, 2, 1) if n > 1 else (1, 1, 0) for n in size), strict=True)


class DescriptionAutoEncoder(nn.Module):
    """Says of a picture what a teacher says of its patches, by way of one short code.

    Small pictures have fewer layers: none of them leads from one place to one place.

    Parameters
    ----------
    shape : tuple of int
        (c, h, w) of pictures.
    target : tuple of int
        (c, h, w) of the teacher's maps.
    latent_size : int, default=64
        Length of the code of a picture of 256 x 256 or fewer pixels, and channels of
        the layers; the first two have half as many.
    dropout : float, default=0.2
        Of the decoder's layers.
    """

    def __init__(self, shape, target, latent_size=64, dropout=0.2):
        super().__init__()
        half = max(1, latent_size // 2)
        parts, shapes = halving_convolutions(shape, (half, half, *(latent_size,) * 3))
        into, *size = shapes[-1] if shapes else shape
        parts.append(nn.Conv2d(into, latent_size, [min(8, n) for n in size]))
        self.encoder, into = nn.ModuleList(parts), latent_size
        sizes = zip(*(decoder_sizes(n) for n in shape[1:]), strict=True)
        self.sizes = [each for each in sizes if max(each) > 1]
        parts = [nn.Conv2d(into, into, 4, padding=2) for _ in self.sizes]
        self.sizes.append(tuple(target[1:]))
        parts.append(nn.Conv2d(into, into, 3, padding=1))
        self.decoder = nn.ModuleList(parts)
        self.last = nn.Conv2d(into, target[0], 3, padding=1)
        self.dropout = dropout

    def encode(self, x):
        """Return the code of pictures, (b, latent_size, 1, 1) up to 256 x 256."""
        *parts, last = self.encoder
        for part in parts:
            x = F.relu(part(x))
        return last(x)

    def forward(self, x):
        """Return maps (b, c, h, w) of the shape of the teacher's."""
        x = self.encode(x)
        for size, part in zip(self.sizes, self.decoder, strict=True):
            x = F.relu(part(F.interpolate(x, size, mode="bilinear")))
            if part is not self.decoder[-1]:
                x = F.dropout(x, self.dropout, self.training)
        return self.last(x)


class ContextNetwork(nn.Module):
    """Says something of each place by way of one short code of the whole picture.

    Strided convolutions lead to the code and transposed ones back. On the way back what
    was seen on the way there is added at each size, times a share: at the beginning of
    the training 1, later 0, the largest size first. Without training it is not added.

    Parameters
    ----------
    shape : tuple of int
        (c, h, w) of pictures.
    target : tuple of int
        (c, h, w) of the map.
    code_size : int, default=32
        Length of the code.
    width : int, default=32
        Channels of the first two layers; the others have twice as many.
    """

    def __init__(self, shape, target, code_size=32, width=32):
        super().__init__()
        out, *self.target = target
        parts, shapes = halving_convolutions(shape, (width, width, *(2 * width,) * 3))
        self.down = nn.ModuleList(parts)
        into, *size = shapes[-1] if shapes else shape
        self.encode = nn.Conv2d(into, code_size, size)
        self.decode = nn.ConvTranspose2d(code_size, into, size)
        self.up, self.across = nn.ModuleList(), nn.ModuleList()
        if shapes:
            self.across.append(nn.Conv2d(into, into, 1))
        for c, *larger in [*shapes[-2::-1], (width, *shape[1:])][: len(shapes)]:
            if all(n >= m for n, m in zip(size, self.target, strict=True)):
                break
            kernel, stride, zeros = _halving(larger)
            odd = [
                n - 2 * m if k > 1 else 0
                for n, m, k in zip(larger, size, stride, strict=True)
            ]
            self.up.append(nn.ConvTranspose2d(into, c, kernel, stride, zeros, odd))
            into, size = c, larger
            if size != list(shape[1:]):
                self.across.append(nn.Conv2d(into, into, 1))
        self.last = nn.Conv2d(into, out, 3, padding=1)

    def code(self, x):
        """Return the code (b, code_size, 1, 1), and what was seen on the way there."""
        seen = []
        for part in self.down:
            x = F.leaky_relu(part(x))
            seen.append(x)
        return self.encode(x), seen

    def shares(self, faded):
        """Return what is added of each size, the smallest first, after some fading.

        `faded` goes from 0 to 1; one size after the other fades, the largest first.
        """
        n = len(self.across)
        return [min(1.0, max(0.0, n - i - faded * n)) for i in range(n)]

    def forward(self, x, faded=1.0):
        """Return the map (b, c, gh, gw) of pictures (b, c, h, w)."""
        code, seen = self.code(x)
        x = F.leaky_relu(self.decode(code))
        shares = self.shares(faded if self.training else 1.0)
        for i, up in enumerate([None, *self.up]):
            x = x if up is None else F.leaky_relu(up(x))
            if i < len(shares) and shares[i]:
                x = x + shares[i] * self.across[i](seen[-1 - i])
        x = self.last(x)
        if list(x.shape[2:]) == self.target:
            return x
        return F.interpolate(x, self.target, mode="bilinear", antialias=True)


def by_order(arrays, module):
    """Return the arrays of a file under the names that a description has.

    The files that are about number the layers, each in a way of its own.
    """
    expected, found = list(module.state_dict()), sorted(arrays, key=_place)
    if len(found) != len(expected):
        return arrays  # the error about them has the names of the file
    return {name: arrays[own] for name, own in zip(expected, found, strict=True)}


def _place(name):
    """Return the number of the layer that an array belongs to, weights first."""
    layer, _, kind = name.rpartition(".")
    return [int(number) for number in re.findall("[0-9]+", layer)], kind != "weight"
