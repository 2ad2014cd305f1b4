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
    """Iterates over (x, y) in slices; a last batch of one joins the one before.

    Parameters
    ----------
    x, y : tensor of shape (n, ...), tensor of shape (n,) or (n, k) or None
        The samples and their labels, which may have more behind them.
    batch_size : int
        Samples of a batch.
    device : torch.device
        Where batches are used.
    shuffle : bool
        Whether their order is drawn.
    share : float or None, default=None
        Share of a batch that is drawn, with replacement, from those labelled below 0;
        the others go through all other samples. None takes all as they come.
    """

    def __init__(self, x, y, batch_size, device, shuffle, share=None):
        self.x, self.y = x, y
        self.batch_size, self.device, self.shuffle = batch_size, device, shuffle
        self.known = None
        labels = y if y is None or y.ndim == 1 else y[:, 0]
        if share is not None and y is not None and (labels < 0).any():
            self.known = torch.nonzero(labels < 0).squeeze(1)
            self.others = torch.nonzero(labels >= 0).squeeze(1)
            self.n_known = max(1, round(share * batch_size))

    def __len__(self):
        return len(self._bounds()) - 1

    def _bounds(self):
        n, size = len(self.x), self.batch_size
        if self.known is not None:
            n, size = len(self.others), max(1, size - self.n_known)
        bounds = [*range(0, n, size), n]
        if len(bounds) > 2 and n - bounds[-2] == 1:
            del bounds[-2]
        return bounds

    def __iter__(self):
        return self._slices() if self.known is None else self._mixed()

    def _mixed(self):
        """Yield batches with their share of known anomalies."""
        x, y = self.x, self.y
        order = self.others[torch.randperm(len(self.others)).to(x.device)]
        for start, stop in pairwise(self._bounds()):
            drawn = torch.randint(len(self.known), (self.n_known,)).to(x.device)
            rows = torch.cat([order[start:stop], self.known[drawn]])
            yield x[rows].to(self.device), y[rows].to(self.device)

    def _slices(self):
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
