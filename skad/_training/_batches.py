"""Batches of samples: slices of one tensor, in order or shuffled."""

from itertools import pairwise, repeat

import torch

# Training data up to this size are moved to the device at once, larger ones by batch.
_RESIDENT_BYTES = 2**32
# Elements of samples that are gathered together for batches to come.
_GATHERED_ELEMENTS = 2**16


def resident(x, device):
    """Return samples on the device where they fit there at once, else as they are."""
    return x.to(device) if x.nbytes <= _RESIDENT_BYTES else x


class Batches:
    """Iterates over (x, y) in slices; a last batch of one joins the one before."""

    def __init__(self, x, y, batch_size, device, shuffle):
        self.x, self.y = x, y
        self.batch_size, self.device, self.shuffle = batch_size, device, shuffle

    def __len__(self):
        return len(self._bounds()) - 1

    def _bounds(self):
        n = len(self.x)
        bounds = [*range(0, n, self.batch_size), n]
        if len(bounds) > 2 and n - bounds[-2] == 1:
            del bounds[-2]
        return bounds

    def __iter__(self):
        x, y = self.x, self.y
        if self.shuffle:
            order = torch.randperm(len(x)).to(x.device)
        # rows are gathered for several batches at once: a call costs more than a row
        elements = self.batch_size * max(1, x[0].numel())
        together = max(1, _GATHERED_ELEMENTS // elements)
        bounds = self._bounds()
        for first in range(0, len(bounds) - 1, together):
            edges = bounds[first : first + together + 1]
            rows = slice(edges[0], edges[-1])
            if self.shuffle:
                rows = order[rows]
            sizes = [stop - start for start, stop in pairwise(edges)]
            parts = x[rows].to(self.device).split(sizes)
            labels = repeat(None) if y is None else y[rows].to(self.device).split(sizes)
            yield from zip(parts, labels, strict=False)
