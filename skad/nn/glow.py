"""A flow of pictures in several scales, each of which gives half of its numbers away.

Kingma and Dhariwal, "Glow: generative flow with invertible 1x1 convolutions", NeurIPS,
2018.
"""

import math

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from skad.nn.flow import InvertibleConvolution

# Standard deviations of the data that started a scale count as so much at least.
_LEAST_DEVIATION = 1e-6
# What the logarithms of gains are multiplied by, which lets them learn faster.
_GAIN_RATE = 3.0


class ActNorm(nn.Module):
    """A learned scale and shift of each channel, which some data start.

    Where `starting` is set, the next call brings each channel of what it gets to mean 0
    and standard deviation 1.

    Parameters
    ----------
    n_channels : int
        Channels.
    """

    starting = False

    def __init__(self, n_channels):
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(n_channels, 1, 1))
        self.log_scale = nn.Parameter(torch.zeros(n_channels, 1, 1))

    def start(self, x):
        """Take scale and shift from maps (b, c, h, w)."""
        rows = x.detach().movedim(1, 0).flatten(1)
        std = rows.std(1, correction=0).clamp(min=_LEAST_DEVIATION)
        with torch.no_grad():
            self.shift.copy_(-rows.mean(1)[:, None, None])
            self.log_scale.copy_(-std.log()[:, None, None])
        self.starting = False

    def forward(self, x):
        """Return the image of maps (b, c, h, w) and the log-determinant, a scalar."""
        if self.starting:
            self.start(x)
        n_places = x.shape[2] * x.shape[3]
        return (x + self.shift) * self.log_scale.exp(), n_places * self.log_scale.sum()

    def inverse(self, z):
        """Return what is mapped to `z` (b, c, h, w)."""
        return z * (-self.log_scale).exp() - self.shift


class NormedConvolution(nn.Module):
    """A convolution with a learned scale and shift behind it, and a ReLU."""

    def __init__(self, n_in, n_out, size):
        super().__init__()
        self.convolution = nn.Conv2d(n_in, n_out, size, padding=size // 2, bias=False)
        nn.init.normal_(self.convolution.weight, std=0.05)
        self.norm = ActNorm(n_out)

    def forward(self, x):
        """Return maps (b, n_out, h, w)."""
        return F.relu(self.norm(self.convolution(x))[0])


class ZeroConvolution(nn.Module):
    """A convolution that starts at zero, with a learned gain of each channel."""

    def __init__(self, n_in, n_out, size):
        super().__init__()
        self.convolution = nn.Conv2d(n_in, n_out, size, padding=size // 2)
        nn.init.zeros_(self.convolution.weight), nn.init.zeros_(self.convolution.bias)
        self.log_gain = nn.Parameter(torch.zeros(n_out, 1, 1))

    def forward(self, x):
        """Return maps (b, n_out, h, w)."""
        return self.convolution(x) * (_GAIN_RATE * self.log_gain).exp()


class GlowStep(nn.Module):
    r"""Scale and shift of channels, an invertible convolution of 1 x 1, and a coupling.

    In the last, half of the channels :math:`u_1` say how the others are moved:
    :math:`u_2` becomes :math:`(u_2 + t) \odot \sigma(s + 2)` with :math:`(s, t)` from
    three convolutions of :math:`u_1`. A single channel has no coupling.

    Parameters
    ----------
    n_channels : int
        Channels.
    hidden_size : int
        Channels between the convolutions.
    size : int
        Height and width of the first and the last convolution, odd.
    """

    def __init__(self, n_channels, hidden_size, size):
        super().__init__()
        self.norm = ActNorm(n_channels)
        self.mix = InvertibleConvolution(n_channels)
        self.n_first = n_channels // 2
        self.subnetwork = None
        if self.n_first:
            self.subnetwork = nn.Sequential(
                NormedConvolution(self.n_first, hidden_size, size),
                NormedConvolution(hidden_size, hidden_size, 1),
                ZeroConvolution(hidden_size, 2 * (n_channels - self.n_first), size),
            )

    def forward(self, x):
        """Return the image of maps (b, c, h, w) and the log-determinant (b,)."""
        x, logdet = self.norm(x)
        x = self.mix(x)
        logdet = logdet + x.shape[2] * x.shape[3] * self.mix.log_determinant()
        if self.subnetwork is None:
            return x, logdet.expand(len(x))
        first, second = x[:, : self.n_first], x[:, self.n_first :]
        scale, shift = self.subnetwork(first).chunk(2, dim=1)
        second = (second + shift) * torch.sigmoid(scale + 2)
        logdet = logdet + F.logsigmoid(scale + 2).flatten(1).sum(1)
        return torch.cat([first, second], 1), logdet

    def inverse(self, z):
        """Return what is mapped to `z` (b, c, h, w)."""
        if self.subnetwork is not None:
            first, second = z[:, : self.n_first], z[:, self.n_first :]
            scale, shift = self.subnetwork(first).chunk(2, dim=1)
            second = second / torch.sigmoid(scale + 2) - shift
            z = torch.cat([first, second], 1)
        return self.norm.inverse(self.mix.inverse(z))


class Squeeze(nn.Module):
    """Makes channels of the pixels of squares of 2 x 2.

    An axis of odd length stays as it is; where both are, all pixels become channels.

    Parameters
    ----------
    shape : tuple of int
        (c, h, w) of the maps.
    """

    def __init__(self, shape):
        super().__init__()
        self.shape = channels, height, width = shape
        if height % 2 and width % 2:
            self.factors = height, width
        else:
            self.factors = 2 - height % 2, 2 - width % 2
        tall, wide = self.factors
        self.squeezed = channels * tall * wide, height // tall, width // wide

    def forward(self, x):
        """Return maps (b, c f, h, w) of maps (b, c, h, w)."""
        tall, wide = self.factors
        x = x.unflatten(3, (-1, wide)).unflatten(2, (-1, tall))
        return x.permute(0, 1, 3, 5, 2, 4).flatten(1, 3)

    def inverse(self, z):
        """Return the maps that `z` is made of."""
        z = z.unflatten(1, (self.shape[0], *self.factors))  # (b, c, tall, wide, h, w)
        return z.permute(0, 1, 4, 2, 5, 3).flatten(4, 5).flatten(2, 3)


class Glow(nn.Module):
    r"""A flow whose likelihood is a sum over scales.

    In each scale, squares of pixels become channels, steps follow, and half of the
    channels are done: with a scale and shift of every number they are :math:`z_l`,
    which is to follow the standard normal distribution; the others go on to the next
    scale. With the log-determinants of a scale its share of the likelihood is

    .. math:: \log N(z_l; 0, I) + \log\left|\det\right|_l.

    Parameters
    ----------
    shape : tuple of int
        (c, h, w) of the pictures.
    n_scales : int, default=3
        Scales; fewer where there is one number left.
    n_steps : int, default=32
        Steps of a scale.
    hidden_size : int, default=512
        Channels between the convolutions of a step.
    """

    def __init__(self, shape, n_scales=3, n_steps=32, hidden_size=512):
        super().__init__()
        self.squeezes, self.steps, self.ends = (nn.ModuleList() for _ in range(3))
        self.n_done = []
        for i in range(n_scales):
            self.squeezes.append(Squeeze(shape))
            channels, height, width = self.squeezes[-1].squeezed
            size = 1 if height == width == 1 else 3
            self.steps.append(
                nn.ModuleList(
                    GlowStep(channels, hidden_size, size) for _ in range(n_steps)
                )
            )
            is_last = i == n_scales - 1 or channels == 1
            self.n_done.append(channels if is_last else channels // 2)
            self.ends.append(ActNorm(self.n_done[-1] * height * width))
            if is_last:
                break
            shape = channels - self.n_done[-1], height, width

    def start(self, x):
        """Take the scales and shifts from pictures (b, c, h, w)."""
        for part in self.modules():
            if isinstance(part, ActNorm):
                part.starting = True
        with torch.no_grad():
            self(x)

    def forward(self, x):
        """Return z (b, d_l) and the log-determinant (b,) of each scale."""
        found = []
        for squeeze, steps, end, n_done in self._scales():
            x, total = squeeze(x), 0.0
            for step in steps:
                x, logdet = step(x)
                total = total + logdet
            z, logdet = end(x[:, :n_done].flatten(1)[..., None, None])
            found.append((z.flatten(1), total + logdet))
            x = x[:, n_done:]
        return found

    def terms(self, x):
        """Return what scales add to the log-likelihood (b, n_scales) of pictures."""
        return torch.stack(
            [
                logdet - 0.5 * (z.square() + math.log(2 * math.pi)).sum(1)
                for z, logdet in self(x)
            ],
            1,
        )

    def inverse(self, parts):
        """Return the pictures (b, c, h, w) that are mapped to z (b, d_l) of scales."""
        x = None
        for z, scale in reversed(list(zip(parts, self._scales(), strict=True))):
            squeeze, steps, end, n_done = scale
            done = end.inverse(z[..., None, None]).flatten(1)
            done = done.unflatten(1, (n_done, *squeeze.squeezed[1:]))
            x = done if x is None else torch.cat([done, x], 1)
            for step in reversed(steps):
                x = step.inverse(x)
            x = squeeze.inverse(x)
        return x

    def _scales(self):
        return zip(self.squeezes, self.steps, self.ends, self.n_done, strict=True)
