"""What decoders share that rebuild the blocks of a vision transformer from their mean.

A method states what makes the decoder's maps, and its loss.
"""

import math

import torch

from skad._training import clipped, warm_cosine
from skad.image._trained import split_maps
from skad.nn.network import Network
from skad.nn.residual import direction_distance, fit_to


def whole_distance(teacher, student):
    """Return one minus the cosine of maps (b, d, gh, gw), each taken as a row, (b,)."""
    rows = (x.flatten(1)[..., None, None] for x in (teacher, student))
    return direction_distance(*rows)[:, 0, 0]


def falling_rate(n_epochs):
    """Return callbacks: a rate that falls to a tenth, and gradients of 0.1 at most."""
    return (*warm_cosine(n_epochs, warm=0, end=0.1), *clipped(0.1))


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
