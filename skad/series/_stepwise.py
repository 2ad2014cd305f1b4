"""Networks over windows whose errors are of single steps."""

from skad._array import namespace
from skad.series._network import SeriesNetwork


class StepwiseNetwork(SeriesNetwork):
    """Base of methods that score a step by its own part of the windows over it.

    The map of a step is the mean of what its windows say of it, or what the one window
    says that `align` names, and its sum over the channels is the step's anomaly.
    """

    _map_sums_to_score = True

    def _block_rows(self, device):
        # recurrent layers go step by step: few windows at a time would take for ever
        return max(self.batch_size, super()._block_rows(device))

    def _anomaly(self, x):
        return namespace(x).sum(self._map(x), axis=1)

    def _anomaly_from(self, x, begin):
        return self._anomaly(x)[begin:]

    def _inspect(self, x):
        maps = self._map(x)
        return namespace(x).sum(maps, axis=1), maps

    def _map(self, x):
        # there, the mean or the one part is taken as many times as a window has steps
        return super()._map(x) / self.window_size_
