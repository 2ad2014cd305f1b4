"""Residual blocks down and up a picture, and what students are put together from.

He et al., "Deep residual learning for image recognition", CVPR, 2016. Strides are
pairs, since pictures may be one row of pixels.
"""

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812


class Norm(nn.BatchNorm2d):
    """Batch norm that takes its running statistics where a batch is one value."""

    def forward(self, x):
        """Normalise (b, c, h, w) over b, h and w."""
        if self.training and x.numel() == x.shape[1]:
            return F.batch_norm(
                x, self.running_mean, self.running_var, self.weight, self.bias
            )
        return super().forward(x)


def convolution(into, out, size=3, stride=(1, 1), up=False):
    """Return a convolution and its norm; `up` makes the map larger by the stride."""
    if up and stride != (1, 1):
        made = nn.ConvTranspose2d(into, out, stride, stride, bias=False)
    else:
        made = nn.Conv2d(into, out, size, stride, size // 2, bias=False)
    return nn.Sequential(made, Norm(out))


class Residual(nn.Module):
    """A residual block, basic or a bottleneck, that may change the size of the map.

    Parameters
    ----------
    into, out : int
        Channels.
    stride : tuple of int, default=(1, 1)
        Along rows and columns.
    inner : int or None, default=None
        Channels of the 3 x 3 convolution of a bottleneck; None is a basic block.
    up : bool, default=False
        Whether the stride makes the map larger, by a transposed convolution whose
        kernel has the size of the stride.
    """

    def __init__(self, into, out, stride=(1, 1), inner=None, up=False):
        super().__init__()
        relu = nn.ReLU(inplace=True)
        if inner is None:
            parts = [convolution(into, out, 3, stride, up), relu, convolution(out, out)]
        else:
            parts = [
                *(convolution(into, inner, 1), relu),
                *(convolution(inner, inner, 3, stride, up), relu),
                convolution(inner, out, 1),
            ]
        self.body = nn.Sequential(*parts)
        same = into == out and stride == (1, 1)
        self.short = nn.Identity() if same else convolution(into, out, 1, stride, up)

    def forward(self, x):
        """Return the block's map."""
        return F.relu(self.body(x) + self.short(x))


def residuals(into, out, n_blocks):
    """Return basic residual blocks one behind the other, of maps of one size."""
    return nn.Sequential(
        Residual(into, out), *(Residual(out, out) for _ in range(n_blocks - 1))
    )


def halvings(size, target):
    """Return the strides, of 1 or 2 along each axis, that lead from a size to another.

    A stride of 2 leaves half of the places, rounded up; none goes below `target`.
    """
    strides = []
    while True:
        stride = tuple(
            2 if -(-n // 2) >= m and n > m else 1
            for n, m in zip(size, target, strict=True)
        )
        if stride == (1, 1):
            return strides
        strides.append(stride)
        size = tuple(-(-n // s) for n, s in zip(size, stride, strict=True))


def fit_to(x, size):
    """Return maps (b, c, h, w) of a size (h, w), pooled or repeated if they differ."""
    return x if x.shape[-2:] == tuple(size) else F.adaptive_avg_pool2d(x, size)


def from_fine_to_coarse(shapes):
    """Return the indices of shapes (c, h, w), the largest grid first."""
    return sorted(range(len(shapes)), key=lambda i: -shapes[i][1] * shapes[i][2])


def initialize(module):
    """Draw the weights of convolutions as He et al. do, for the gradients' variance."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")
            if part.bias is not None:
                nn.init.zeros_(part.bias)
    return module


class Pyramid(nn.Module):
    """Residual blocks down a picture that return maps of given shapes on their way.

    Parameters
    ----------
    input_shape : tuple of int
        (c, h, w) of pictures.
    shapes : list of tuple
        (c, h, w) of the maps, in any order.
    channels : tuple of int, default=(32, 64, 128)
        Channels of the first convolution and, after it, of maps halved once more; the
        last stands for all that follow.
    """

    def __init__(self, input_shape, shapes, channels=(32, 64, 128)):
        super().__init__()
        self.order = from_fine_to_coarse(shapes)
        into, size = input_shape[0], tuple(input_shape[1:])
        widths = list(channels[:-1])
        self.stages, self.heads = nn.ModuleList(), nn.ModuleList()
        self.sizes = [tuple(shapes[i][1:]) for i in self.order]
        for i, target in zip(self.order, self.sizes, strict=True):
            parts = []
            for stride in halvings(size, target) or [(1, 1)]:
                out = widths.pop(0) if widths else channels[-1]
                if not parts and not self.stages:
                    wide = 7 if stride != (1, 1) else 3
                    parts += [convolution(into, out, wide, stride), nn.ReLU()]
                else:
                    parts.append(Residual(into, out, stride))
                into = out
            parts.append(Residual(into, into))
            self.stages.append(nn.Sequential(*parts))
            self.heads.append(nn.Conv2d(into, shapes[i][0], 1))
            size = target

    def forward(self, x):
        """Return the maps (b, c, h, w) in the order of the shapes."""
        found = [None] * len(self.order)
        parts = zip(self.order, self.sizes, self.stages, self.heads, strict=True)
        for i, size, stage, head in parts:
            x = fit_to(stage(x), size)
            found[i] = head(x)
        return found


def direction_distance(teacher, student):
    r"""Return :math:`\|\hat t - \hat s\|^2 / 2` of places, (b, c, h, w) to (b, h, w).

    Of vectors divided by their length: one minus their cosine, without the rounding of
    that form near zero.
    """
    difference = F.normalize(teacher, dim=1) - F.normalize(student, dim=1)
    return difference.square().sum(1) / 2


def resized(maps, size):
    """Return maps (b, h, w) interpolated to a size (h, w)."""
    return F.interpolate(maps[:, None], size, mode="bilinear")[:, 0]


def stacked(maps, size):
    """Return a list of maps (b, h_l, w_l) at one size, (l, b, h, w)."""
    return torch.stack([resized(each, size) for each in maps])
