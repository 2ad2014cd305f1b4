"""Normalizing flows: affine coupling blocks, on vectors or maps, and planar blocks."""

import math

import torch
from torch import nn
from torch.nn import functional

# Smallest squared length of a direction that is divided by.
_TINY = 1e-12
# Smallest rise of a planar block along its normal; rounding would make it zero.
_RISE = 1e-6


class Coupling(nn.Module):
    r"""Invertible block: one half of the channels says how the other is scaled.

    Channels are permuted by a fixed random permutation and split into :math:`u_1, u_2`;
    with :math:`(s, t)` from a subnetwork of :math:`u_1`, the block returns
    :math:`u_1` and :math:`u_2 \odot \exp(\sigma(s)) + t`, whose log-determinant is the
    sum of :math:`\sigma(s)` (Dinh, Sohl-Dickstein and Bengio, "Density estimation using
    Real NVP", ICLR, 2017, equations (7) and (8)). The soft clamp
    :math:`\sigma(s) = \alpha \frac{2}{\pi} \arctan(s / \alpha)` keeps the scale within
    :math:`e^{\pm\alpha}` (Ardizzone et al., "Guided image generation with conditional
    invertible neural networks", 2019, equation (4)).

    Parameters
    ----------
    n_channels : int
        Channels, two at least.
    subnetwork : callable
        Called with the numbers of channels that a module takes and returns.
    n_conditions : int, default=0
        Channels of the condition that the subnetwork sees beside the first half.
    clamp : float, default=1.9
        :math:`\alpha`.
    """

    def __init__(self, n_channels, subnetwork, n_conditions=0, clamp=1.9):
        super().__init__()
        check_channels(n_channels)
        self.n_first, self.clamp = n_channels // 2, clamp
        order = torch.randperm(n_channels)
        self.register_buffer("order", order)
        self.register_buffer("back", order.argsort())
        n_second = n_channels - self.n_first
        self.subnetwork = subnetwork(self.n_first + n_conditions, 2 * n_second)

    def forward(self, x, condition=None):
        """Return the image of `x` (b, c, ...) and its log-determinant (b, ...)."""
        first, second = self._split(x[:, self.order])
        scale, shift = self._scale_and_shift(first, condition)
        second = second * scale.exp() + shift
        return torch.cat([first, second], 1), scale.sum(1)

    def inverse(self, z, condition=None):
        """Return what is mapped to `z` (b, c, ...)."""
        first, second = self._split(z)
        scale, shift = self._scale_and_shift(first, condition)
        x = torch.cat([first, (second - shift) * (-scale).exp()], 1)
        return x[:, self.back]

    def _split(self, x):
        return x[:, : self.n_first], x[:, self.n_first :]

    def _scale_and_shift(self, first, condition):
        seen = first if condition is None else torch.cat([first, condition], 1)
        scale, shift = self.subnetwork(seen).chunk(2, dim=1)
        return softly_clamped(scale, self.clamp), shift


def softly_clamped(scale, bound):
    r"""Return :math:`\alpha \frac{2}{\pi} \arctan(s / \alpha)`, within the bound."""
    return bound * 2 / math.pi * torch.atan(scale / bound)


class AllInOne(nn.Module):
    r"""Invertible block: a coupling, a scale of each channel, and a fixed rotation.

    The first :math:`\lceil c / 2 \rceil` channels :math:`u_1` say how the others are
    scaled and moved: with :math:`(s, t)` a tenth of what the subnetwork makes of
    :math:`u_1`, :math:`v = (u_1, u_2 \odot \exp(\alpha \tanh s) + t)`. The block
    returns :math:`R \, (g \odot v + o)` with learned :math:`o` and
    :math:`g = \mathrm{softplus}_{1/2}(\gamma) / 10`, one at first, and a fixed random
    rotation or permutation :math:`R`. Its log-determinant is the sum of
    :math:`\alpha \tanh s` and :math:`\log g`. The block of FrEIA with that name
    (Ardizzone et al., "Framework for easily invertible architectures", 2018).

    Parameters
    ----------
    n_channels : int
        Channels, two at least.
    subnetwork : callable
        Called with the numbers of channels that a module takes and returns.
    n_conditions : int, default=0
        Channels of the condition that the subnetwork sees beside the first half.
    clamp : float, default=2.0
        :math:`\alpha`.
    soft : bool, default=True
        Whether channels are rotated, else permuted.
    """

    def __init__(self, n_channels, subnetwork, n_conditions=0, clamp=2.0, soft=True):
        super().__init__()
        check_channels(n_channels)
        self.n_first, self.clamp = n_channels - n_channels // 2, clamp
        self.subnetwork = subnetwork(
            self.n_first + n_conditions, 2 * (n_channels - self.n_first)
        )
        start = 2 * math.log(math.expm1(5))
        self.gain = nn.Parameter(torch.full((n_channels,), start))
        self.offset = nn.Parameter(torch.zeros(n_channels))
        rotation = torch.eye(n_channels)[torch.randperm(n_channels)]
        if soft:
            rotation, upper = torch.linalg.qr(torch.randn(n_channels, n_channels))
            rotation = rotation * upper.diagonal().sign()  # uniform over rotations
        self.register_buffer("rotation", rotation)

    def forward(self, x, condition=None):
        """Return the image of `x` (b, c, ...) and its log-determinant (b, ...)."""
        first, second = x[:, : self.n_first], x[:, self.n_first :]
        scale, shift = self._scale_and_shift(first, condition)
        x = torch.cat([first, second * scale.exp() + shift], 1).movedim(1, -1)
        gain = self._gain()
        x = (gain * x + self.offset) @ self.rotation.T
        return x.movedim(-1, 1), scale.sum(1) + gain.log().sum()

    def inverse(self, z, condition=None):
        """Return what is mapped to `z` (b, c, ...)."""
        # a rotation that was made in float32 is none to the last bit of float64
        x = torch.linalg.solve(self.rotation.T, z.movedim(1, -1), left=False)
        x = ((x - self.offset) / self._gain()).movedim(-1, 1)
        first, second = x[:, : self.n_first], x[:, self.n_first :]
        scale, shift = self._scale_and_shift(first, condition)
        return torch.cat([first, (second - shift) * (-scale).exp()], 1)

    def _gain(self):
        return functional.softplus(self.gain, beta=0.5) / 10

    def _scale_and_shift(self, first, condition):
        seen = first if condition is None else torch.cat([first, condition], 1)
        scale, shift = (self.subnetwork(seen) / 10).chunk(2, dim=1)
        return self.clamp * torch.tanh(scale), shift


def check_channels(n_channels):
    """Raise where there are too few channels to be split."""
    if n_channels < 2:
        raise ValueError(
            "A flow splits channels in two: layers with one channel cannot be used."
        )


class InvertibleConvolution(nn.Module):
    r"""Invertible convolution of 1 x 1, which mixes the channels of each place.

    Its matrix is :math:`P L (U + \mathrm{diag}(\pm e^{s}))` with a fixed permutation
    :math:`P` and triangular :math:`L, U` (Kingma and Dhariwal, "Glow: generative flow
    with invertible 1x1 convolutions", NeurIPS, 2018, equation (10)). At first it is a
    random orthogonal one.

    Parameters
    ----------
    n_channels : int
        Channels.
    keeps_volume : bool, default=False
        Whether the mean of :math:`s` is taken off, so that the determinant is 1 or -1.
    """

    def __init__(self, n_channels, keeps_volume=False):
        super().__init__()
        self.keeps_volume = keeps_volume
        matrix, _ = torch.linalg.qr(torch.randn(n_channels, n_channels))
        order, lower, upper = torch.linalg.lu(matrix)
        scale = upper.diagonal()
        self.register_buffer("order", order)
        self.register_buffer("sign", scale.sign())
        self.lower = nn.Parameter(lower.tril(-1))
        self.upper = nn.Parameter(upper.triu(1))
        self.log_scale = nn.Parameter(scale.abs().log())

    def _logarithms(self):
        """Return the logarithms (c,) of the diagonal."""
        if self.keeps_volume:
            return self.log_scale - self.log_scale.mean()
        return self.log_scale

    def log_determinant(self):
        """Return the logarithm of the size of the determinant, of one place."""
        return self._logarithms().sum()

    def matrix(self):
        """Return the matrix (c, c)."""
        scale = self.sign * self._logarithms().exp()
        eye = torch.eye(len(scale), dtype=scale.dtype, device=scale.device)
        lower, upper = self.lower.tril(-1) + eye, self.upper.triu(1) + scale.diag()
        return self.order @ lower @ upper

    def forward(self, x):
        """Return the image of maps (b, c, h, w)."""
        return functional.conv2d(x, self.matrix()[:, :, None, None])

    def inverse(self, z):
        """Return what is mapped to `z` (b, c, h, w)."""
        return torch.linalg.solve(self.matrix(), z.flatten(2)).view_as(z)


class Planar(nn.Module):
    r"""Block that pushes vectors one way, by how far they lie along another.

    It returns :math:`f(z) = z + \hat u \tanh(w \cdot z + b)`, whose log-determinant is
    :math:`\log(1 + (1 - \tanh^2(w \cdot z + b)) \, w \cdot \hat u)` (Rezende and
    Mohamed, "Variational inference with normalizing flows", ICML, 2015, equations (10)
    to (12)). The free direction `u` is moved along `w` until the block is invertible,
    which takes :math:`w \cdot \hat u > -1`: :math:`\hat u = u + (m(w \cdot u) - w \cdot
    u) \, w / \lVert w \rVert^2` with :math:`m(x) = -1 + \log(1 + e^x)` (their appendix
    A.1).

    Parameters
    ----------
    n_features : int
        Length of the vectors.
    """

    def __init__(self, n_features):
        super().__init__()
        bound = n_features**-0.5
        self.push = nn.Parameter(torch.empty(n_features).uniform_(-bound, bound))
        self.normal = nn.Parameter(torch.empty(n_features).uniform_(-bound, bound))
        self.shift = nn.Parameter(torch.zeros(()))

    def direction(self):
        """Return the direction that the block pushes in, and its product with `w`."""
        along = self.push @ self.normal
        allowed = functional.softplus(along).clamp(min=_RISE) - 1
        length = (self.normal @ self.normal).clamp(min=_TINY)
        return self.push + (allowed - along) / length * self.normal, allowed

    def forward(self, z, condition=None):
        """Return the image of `z` (..., k) and its log-determinant (...)."""
        direction, allowed = self.direction()
        bend = torch.tanh(z @ self.normal + self.shift)
        logdet = torch.log1p((1 - bend**2) * allowed)
        return z + bend[..., None] * direction, logdet


class Flow(nn.Module):
    """Blocks one after the other; `inverse` is of coupling blocks only.

    Parameters
    ----------
    blocks : sequence of Coupling, AllInOne or Planar
        The blocks.
    """

    def __init__(self, blocks):
        super().__init__()
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x, condition=None):
        """Return the image of `x` (b, c, ...) and its log-determinant (b, ...)."""
        total = 0.0
        for block in self.blocks:
            x, logdet = block(x, condition)
            total = total + logdet
        return x, total

    def inverse(self, z, condition=None):
        """Return what is mapped to `z` (b, c, ...)."""
        for block in reversed(self.blocks):
            z = block.inverse(z, condition)
        return z


def sinusoids(n_channels, height, width):
    """Return codes (n_channels, height, width) of places, sines and cosines.

    Half of the channels code the column, half the row (Vaswani et al., 2017, in two
    dimensions); `n_channels` is a multiple of four.
    """
    if n_channels % 4:
        raise ValueError(f"condition_size={n_channels} must be a multiple of four.")
    quarter = n_channels // 4
    rates = torch.exp(-math.log(10000.0) * torch.arange(quarter) / quarter)
    columns = torch.arange(width)[None, :] * rates[:, None]  # (quarter, width)
    rows = torch.arange(height)[None, :] * rates[:, None]
    wide = torch.stack([columns.sin(), columns.cos()], 1).flatten(0, 1)
    high = torch.stack([rows.sin(), rows.cos()], 1).flatten(0, 1)
    return torch.cat(
        [
            wide[:, None, :].expand(-1, height, -1),
            high[:, :, None].expand(-1, -1, width),
        ]
    )


def codes_of_places(n_channels, height, width):
    """Return sines and cosines of places, of any number of channels."""
    return sinusoids(-(-n_channels // 4) * 4, height, width)[:n_channels]
