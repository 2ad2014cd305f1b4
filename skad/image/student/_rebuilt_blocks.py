"""What decoders share that rebuild the blocks of a vision transformer from their mean.

A method states what makes the decoder's maps, and its loss.
"""

import math
from collections.abc import Callable
from numbers import Integral

import torch

from skad._parameters import with_parameters
from skad._sklearn import Interval
from skad._training import clipped, warm_cosine
from skad.image._trained import TrainedImageDetector, split_maps
from skad.nn.network import Network
from skad.nn.residual import direction_distance, fit_to


def whole_distance(teacher, student):
    """Return one minus the cosine of maps (b, d, gh, gw), each taken as a row, (b,)."""
    rows = (x.flatten(1)[..., None, None] for x in (teacher, student))
    return direction_distance(*rows)[:, 0, 0]


class RebuiltBlocks(Network):
    """Compares the means of the halves of layers with those of a decoder's maps.

    Parameters
    ----------
    shapes : list of tuple
        (d, gh, gw) of the layers, of one width d.
    name : str
        Of the method, for the error where widths differ.
    """

    def __init__(self, shapes, name):
        super().__init__()
        widths = {shape[0] for shape in shapes}
        if len(widths) > 1:
            raise ValueError(
                f"layers have maps of {sorted(widths)} channels: {name} averages "
                "them, so that they have to be alike, as a transformer's blocks are."
            )
        (self.width,), self.shapes = widths, shapes
        self.grid = tuple(shapes[0][1:])

    def seen(self, x):
        """Return the maps (b, d, gh, gw) of the layers at the grid of the first."""
        return [fit_to(each, self.grid) for each in split_maps(x, self.shapes)]

    def mean_tokens(self, maps):
        """Return the mean of maps (b, d, gh, gw) as tokens (b, t, d)."""
        return torch.stack(maps).mean(0).flatten(2).mT

    def rebuilt_maps(self, maps):
        """Return what the decoder's blocks say, (b, d, gh, gw), the last one first."""
        raise NotImplementedError

    def groups_of(self, maps):
        """Return the means of the first and the second half of maps, or of one."""
        middle = math.ceil(len(maps) / 2)
        halves = [half for half in (maps[:middle], maps[middle:]) if half]
        return [torch.stack(half).mean(0) for half in halves]

    def pairs(self, x):
        """Return the groups of the layers, and those of the decoder for them."""
        maps = self.seen(x)
        return self.paired(maps, self.rebuilt_maps(maps))

    def paired(self, maps, rebuilt):
        """Return the groups of maps of both, pair by pair."""
        groups = [self.groups_of(each) for each in (maps, rebuilt)]
        if len(groups[0]) != len(groups[1]):  # one layer, or one block
            groups = [[torch.stack(each).mean(0)] for each in (maps, rebuilt)]
        return list(zip(*groups, strict=True))

    def map(self, x):
        """Return one minus the cosine of places, the mean over groups, (b, gh, gw)."""
        found = [direction_distance(*pair) for pair in self.pairs(x)]
        return torch.stack(found).mean(0)


@with_parameters
class BlocksDetector(TrainedImageDetector):
    """Base of detectors whose network is made of `RebuiltBlocks`.

    Parameters
    ----------
    n_blocks : int or None, default=None
        Blocks of the decoder; None is as many as there are layers.
    lr : float, default=0.001
        Learning rate; falls to a tenth along a cosine.
    """

    n_blocks: int | None = None
    max_epochs: int = 200
    batch_size: int = 16
    lr: float = 1e-3
    weight_decay: float = 1e-4
    optimizer: str | Callable = "adamw"
    pooling: str = "top"
    quantile: float = 0.99

    _resnet_layers = ("layer3",)
    _optimizer_options = {"amsgrad": True, "eps": 1e-10}
    _parameter_constraints = {
        "n_blocks": [Interval(Integral, 1, None, closed="left"), None],
    }

    def _own_callbacks(self, phase, n_epochs):
        return (*warm_cosine(n_epochs, warm=0, end=0.1), *clipped(0.1))
