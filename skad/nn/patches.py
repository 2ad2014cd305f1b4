"""Patches of pictures: cut out at random, coded all at once, and put together again."""

import math
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

# Channels of the first convolutions of an encoder of patches, behind each other.
_WIDTHS = (32, 64, 128, 128, 64, 32, 32)
# Sides of the patches that encoders are for, and of their quarters.
SIDES = (8, 16, 32, 64)
# The eight neighbours of a patch: rows and columns.
AROUND = [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1) if i or j]
# Twelve ways from a patch, 30 degrees from each other.
CIRCLE = [(math.cos(k * math.pi / 6), math.sin(k * math.pi / 6)) for k in range(12)]


def cut(x, owners, tops, lefts, side):
    """Return patches (m, c, side, side) of pictures (b, c, h, w).

    Parameters
    ----------
    x : tensor of shape (b, c, h, w)
        The pictures.
    owners, tops, lefts : tensor of shape (m,)
        The picture, and the upper left pixel, of each patch.
    side : int
        Of the patches, in pixels.
    """
    steps = torch.arange(side)
    rows = (tops[:, None] + steps)[:, :, None]
    columns = (lefts[:, None] + steps)[:, None, :]
    owners, rows, columns = (
        each.to(x.device) for each in (owners[:, None, None], rows, columns)
    )
    return x[owners, :, rows, columns].movedim(3, 1)


def _together(pictures, owners, side, *moves):
    """Return patches drawn anywhere, and those some pixels (m, 2) away from them.

    Where the picture ends, these do.
    """
    last = torch.tensor(pictures.shape[2:]) - side
    start = (torch.rand(len(owners), 2) * (last + 1)).long()
    ends = (torch.minimum((start + away).clamp(min=0), last) for away in moves)
    return (cut(pictures, owners, *place.T, side) for place in (start, *ends))


def _steps(n, side, ways, nearest):
    """Draw `n` ways, and moves (n, 2) that way, from `nearest` on a quarter farther."""
    way = torch.randint(len(ways), (n,))
    steps = nearest + torch.randint(max(1, side // 4), (n, 2))
    return way, (torch.tensor(ways)[way] * steps).round().long()


def _few_pixels(n, most):
    """Draw moves (n, 2) of up to `most` pixels each way, and never none."""
    side = 2 * most + 1
    which = torch.randint(side * side - 1, (n,))
    which = which + (which >= side * side // 2)  # all moves but none
    return torch.stack([which // side, which % side], 1) - most


def neighbours(pictures, owners, side, ways=AROUND):
    """Return patches, one of the eight around each, and which it is.

    Or one that lies one of other `ways`, pairs of rows and columns.
    """
    way, moves = _steps(len(owners), side, ways, 3 * side // 4)
    return *_together(pictures, owners, side, moves), way


def around(pictures, side):
    """Return the middle patch of each picture eight times, those around, and which."""
    ends = torch.tensor(pictures.shape[2:]) - side
    owners = torch.arange(len(pictures)).repeat_interleave(len(AROUND))
    way = torch.arange(len(AROUND)).repeat(len(pictures))
    start = (ends // 2).expand(len(way), 2)
    other = start + torch.tensor(AROUND)[way] * (7 * side // 8)
    other = torch.minimum(other.clamp(min=0), ends)
    return *(cut(pictures, owners, *each.T, side) for each in (start, other)), way


def shaken(pictures, owners, side):
    """Return patches, and the same few pixels away, the paper's 1 or 2."""
    moves = _few_pixels(len(owners), max(1, side // 32))
    return _together(pictures, owners, side, moves)


def near_and_far(pictures, owners, side):
    """Return patches, the same few pixels away, and others that do not overlap them.

    The second lie up to a sixteenth of the side away, at least a pixel, the third one
    and a half sides to one and three quarters, along one of `CIRCLE`.
    """
    near = _few_pixels(len(owners), max(1, side // 16))
    far = _steps(len(owners), side, CIRCLE, 3 * side // 2)[1]
    return _together(pictures, owners, side, near, far)


def spread(scores, side, stride):
    """Return maps (b, h, w): of each pixel, the mean of the patches that it is in.

    Parameters
    ----------
    scores : tensor of shape (b, gh, gw)
        Of patches, each `stride` pixels from the one before.
    side, stride : int
        Of the patches, in pixels.
    """
    ones = scores.new_ones(1, 1, side, side)
    total = F.conv_transpose2d(scores[:, None], ones, stride=stride)
    count = F.conv_transpose2d(torch.ones_like(scores[:1, None]), ones, stride=stride)
    return (total / count)[:, 0]


def filled(x, side, stride):
    """Return pictures (b, c, h, w) that patches fill, and how many pixels are before.

    Where `stride` does not lead to the end, or the picture is smaller than a patch, it
    goes on as it is at the border, on both sides.
    """
    missing = [max(side, side - (side - n) // stride * stride) - n for n in x.shape[2:]]
    before = [n // 2 for n in missing]
    (top, left), (down, right) = (
        before,
        [n - m for n, m in zip(missing, before, strict=True)],
    )
    if not any(missing):
        return x, (0, 0)
    return F.pad(x, (left, right, top, down), mode="replicate"), (top, left)


class PatchEncoder(nn.Module):
    """Codes of patches, and of patches of twice the side by those of their quarters.

    Convolutions of 3 x 3 without padding, the first with a stride of 2, lead from a
    small patch to one place; two more layers join the codes of four quarters. So the
    codes of all patches of a picture are one pass over it (Yi and Yoon, "Patch SVDD:
    patch-level SVDD for anomaly detection and segmentation", ACCV, 2020, section 3.3).

    Parameters
    ----------
    n_channels : int
        Of pictures.
    side : int
        Of large patches: 8, 16, 32 or 64, whose quarters 1, 2, 4 or 8 convolutions
        look at.
    code_size : int, default=64
        Length of codes, which are in -1..1.
    """

    def __init__(self, n_channels, side, code_size=64):
        super().__init__()
        self.side = side
        widths = [n_channels, *_WIDTHS[: side // 8 - 1], code_size]
        self.small = nn.ModuleList(
            nn.Conv2d(into, out, 3, 1 if i else 2)
            for i, (into, out) in enumerate(pairwise(widths))
        )
        self.join = nn.Conv2d(code_size, 128, 2)
        self.last = nn.Conv2d(128, code_size, 1)

    def quarters(self, x):
        """Return codes (b, d, h', w') of small patches, two pixels from each other."""
        for i, layer in enumerate(self.small):
            x = layer(F.leaky_relu(x, 0.1) if i else x)
        return x.tanh()

    def joined(self, codes, apart, stride=1):
        """Return codes (b, d, h', w') of large patches, of those of small ones.

        `apart` and `stride` are counted in places of the small ones: from a quarter to
        the next, and from a large patch to the next.
        """
        # four views and one product: torch goes through dilated ones picture by picture
        ends = [side - apart for side in codes.shape[2:]]
        parts = [codes[:, :, i : i + ends[0] : stride] for i in (0, apart)]
        parts = [
            part[..., j : j + ends[1] : stride] for part in parts for j in (0, apart)
        ]
        square = torch.stack(parts, 2).flatten(1, 2)  # (b, 4 d, h', w')
        codes = F.conv2d(
            square, self.join.weight.flatten(1)[..., None, None], self.join.bias
        )
        return self.last(F.leaky_relu(codes, 0.1)).tanh()

    def codes(self, patches):
        """Return the codes (b, d) of patches (b, c, k, k), large or small."""
        half = self.side // 2
        if patches.shape[2] == half:
            return self.quarters(patches)[:, :, 0, 0]
        parts = [patches[:, :, i : i + half] for i in (0, half)]
        parts = [part[..., j : j + half] for part in parts for j in (0, half)]
        codes = self.quarters(torch.cat(parts))[:, :, 0, 0]
        square = codes.unflatten(0, (2, 2, -1)).permute(2, 3, 0, 1)  # (b, d, 2, 2)
        return self.joined(square, 1)[:, :, 0, 0]

    def all_codes(self, x, strides):
        """Return the codes (b, d, gh, gw) of the large and of the small patches.

        `strides` are the pixels from a patch to the next, even ones.
        """
        places = self.quarters(x)
        far, near = (stride // 2 for stride in strides)
        return self.joined(places, self.side // 4, far), places[:, :, ::near, ::near]
