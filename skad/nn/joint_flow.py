"""Couplings of several maps at once, both halves of whose channels are changed."""

from functools import partial

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from skad.nn.flow import Flow, check_channels, softly_clamped


class JointCoupling(nn.Module):
    r"""Invertible block: each half of the channels says how the other is scaled.

    The channels of each map are permuted at random, once and for all, and split into
    :math:`u_1, u_2`. With :math:`(s_1, t_1)` from a subnetwork of all the maps' second
    halves, and :math:`(s_2, t_2)` from another of all the new first ones,

    .. math:: v_1 = u_1 \odot \exp(\sigma(s_1)) + t_1, \qquad
        v_2 = u_2 \odot \exp(\sigma(s_2)) + t_2,

    and the log-determinant is the sum of all :math:`\sigma(s)`, where
    :math:`\sigma(s) = \alpha \frac{2}{\pi} \arctan(s / \alpha)` (Rudolph, Wehrbein,
    Rosenhahn and Wandt, "Fully convolutional cross-scale-flows for image-based defect
    detection", WACV, 2022, section 3.1).

    Parameters
    ----------
    n_channels : int
        Channels of each map, two at least.
    subnetwork : callable
        Called with the numbers of channels that a module takes and returns, of each
        map; the module takes and returns a list of maps.
    n_maps : int, default=1
        Number of maps.
    n_conditions : int, default=0
        Channels of the condition that subnetworks see beside a half.
    clamp : float, default=3.0
        :math:`\alpha`.
    """

    def __init__(self, n_channels, subnetwork, n_maps=1, n_conditions=0, clamp=3.0):
        super().__init__()
        check_channels(n_channels)
        self.n_first, self.clamp = n_channels // 2, clamp
        n_second = n_channels - self.n_first
        orders = torch.stack([torch.randperm(n_channels) for _ in range(n_maps)])
        self.register_buffer("order", orders)
        self.register_buffer("back", orders.argsort(1))
        self.of_second = subnetwork(n_second + n_conditions, 2 * self.n_first)
        self.of_first = subnetwork(self.n_first + n_conditions, 2 * n_second)

    def forward(self, maps, condition=None):
        """Return the images of maps (b, c, ...), a list, and the log-determinant (b,).

        `condition` is a list of what goes with each map, or None.
        """
        maps = [each[:, order] for each, order in zip(maps, self.order, strict=True)]
        first, second = self._split(maps)
        to_first = self._scales_and_shifts(self.of_second, second, condition)
        first = _moved(first, to_first)
        to_second = self._scales_and_shifts(self.of_first, first, condition)
        second = _moved(second, to_second)
        scales = [scale for scale, _ in (*to_first, *to_second)]
        return _joined(first, second), sum(each.flatten(1).sum(1) for each in scales)

    def inverse(self, maps, condition=None):
        """Return what is mapped to `maps`."""
        first, second = self._split(maps)
        to_second = self._scales_and_shifts(self.of_first, first, condition)
        second = _moved_back(second, to_second)
        to_first = self._scales_and_shifts(self.of_second, second, condition)
        first = _moved_back(first, to_first)
        found = zip(_joined(first, second), self.back, strict=True)
        return [each[:, back] for each, back in found]

    def _split(self, maps):
        halves = [each.tensor_split([self.n_first], 1) for each in maps]
        return [a for a, _ in halves], [b for _, b in halves]

    def _scales_and_shifts(self, subnetwork, seen, condition):
        if condition is not None:
            seen = _joined(seen, condition)
        pairs = (each.chunk(2, dim=1) for each in subnetwork(seen))
        return [(softly_clamped(scale, self.clamp), shift) for scale, shift in pairs]


def _moved(maps, how):
    return [x * s.exp() + t for x, (s, t) in zip(maps, how, strict=True)]


def _moved_back(maps, how):
    return [(x - t) * (-s).exp() for x, (s, t) in zip(maps, how, strict=True)]


def _joined(maps, others):
    return [torch.cat(pair, 1) for pair in zip(maps, others, strict=True)]


class CrossConvolutions(nn.Module):
    """Two convolutions of each of several maps, which tell the maps beside them.

    What comes out is multiplied by a learned number of each map that is 0 at first: a
    coupling with it begins as the permutation of its channels.

    Parameters
    ----------
    n_in, n_out : int
        Channels of each map.
    hidden_size : int
        Channels between the convolutions.
    kernel_size : int, default=3
        Height and width of the convolutions, odd.
    n_maps : int, default=1
        Number of maps, from the finest to the coarsest, each of half the size.
    """

    def __init__(self, n_in, n_out, hidden_size, kernel_size=3, n_maps=1):
        super().__init__()

        def each(n, n_in, n_out, stride=1):
            return nn.ModuleList(
                nn.Conv2d(n_in, n_out, kernel_size, stride, kernel_size // 2)
                for _ in range(n)
            )

        self.first = each(n_maps, n_in, hidden_size)
        self.second = each(n_maps, hidden_size, n_out)
        self.to_finer = each(n_maps - 1, hidden_size, n_out)
        self.to_coarser = each(n_maps - 1, hidden_size, n_out, stride=2)
        self.gain = nn.Parameter(torch.zeros(n_maps))

    def forward(self, maps):
        """Return a list of maps (b, n_out, h, w) of maps (b, n_in, h, w)."""
        hidden = [
            F.leaky_relu(layer(x), 0.1)
            for layer, x in zip(self.first, maps, strict=True)
        ]
        found = [layer(x) for layer, x in zip(self.second, hidden, strict=True)]
        for i, (up, down) in enumerate(
            zip(self.to_finer, self.to_coarser, strict=True)
        ):
            fine, coarse = hidden[i], hidden[i + 1]
            found[i] = found[i] + up(_of_size(coarse, fine))
            found[i + 1] = found[i + 1] + _of_size(down(fine), coarse)
        return [gain * x for gain, x in zip(self.gain, found, strict=True)]


def _of_size(x, other):
    """Return maps (b, c, h, w) of the height and width of others."""
    size = other.shape[-2:]
    return x if x.shape[-2:] == size else F.interpolate(x, size, mode="bilinear")


def joint_flow(n_channels, n_steps, hidden_size, clamp, n_maps=1, n_conditions=0):
    """Return a flow of couplings with convolutions, the last of 5 x 5, others of 3 x 3.

    Parameters
    ----------
    n_channels : int
        Channels of each map.
    n_steps : int
        Couplings.
    hidden_size : int
        Channels between the convolutions of a coupling.
    clamp : float
        Bound of the logarithm of what a coupling scales by.
    n_maps : int, default=1
        Number of maps, as :class:`CrossConvolutions` takes them.
    n_conditions : int, default=0
        Channels of the condition that couplings see.
    """
    blocks = []
    for i in range(n_steps):
        subnetwork = partial(
            CrossConvolutions,
            hidden_size=hidden_size,
            kernel_size=5 if i == n_steps - 1 else 3,
            n_maps=n_maps,
        )
        blocks.append(
            JointCoupling(n_channels, subnetwork, n_maps, n_conditions, clamp)
        )
    return Flow(blocks)
