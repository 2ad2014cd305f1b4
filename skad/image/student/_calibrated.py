"""Detectors whose maps are brought to one scale by the pictures that are held out."""

import copy

import numpy as np
import torch
from torch import nn

from skad._array import slices
from skad.image._trained import TrainedImageDetector
from skad.nn.distillation import MapCalibration

# Parts of the held-out pictures, each of which is scored by the scale of the others.
_PARTS = 20


class CalibratedMaps(nn.Module):
    """A network with several maps of a picture, which `calibration` makes alike.

    A method writes `raw_maps(x)`, of shape (m, b, gh, gw), and `joined(maps)`, the map
    that comes of them on one scale.
    """

    calibration: MapCalibration

    def map(self, x):
        """Return the map (b, h, w)."""
        return self.joined(self.calibration(self.raw_maps(x)))


class CalibratedDetector(TrainedImageDetector):
    """Base of detectors around such a network.

    The held-out pictures, which bring the maps to one scale, also set the threshold.
    What they have scaled themselves is too much alike: each is scored by the scale that
    the others give.
    """

    def _holds_out(self):
        return True  # the scale comes from pictures that were not learned

    def _held_out_anomaly(self, held):
        pictures = np.unique(held // self._n_tiles_, return_inverse=True)[1]
        n_parts = min(pictures.max() + 1, _PARTS)
        if n_parts == 1:
            return super()._held_out_anomaly(held)
        found, scale = np.empty(len(held)), copy.deepcopy(self.net_.calibration)
        with torch.no_grad():
            raw = torch.cat(list(self._raw_maps(held)), 1)
            for i in range(n_parts):
                own = pictures % n_parts == i
                scale.learn([raw[:, ~own]])
                maps = self.net_.joined(scale(raw[:, own].to(self.device_)))
                found[own] = self._pool(maps).cpu()
        return self._kept_for_tiles(torch.as_tensor(found))

    def _raw_maps(self, rows):
        """Yield the maps (m, b, gh, gw) of some training samples, on the host."""
        for part in slices(len(rows), self._block_rows(self.device_)):
            x = self._trained_.samples[torch.as_tensor(rows[part])]
            yield self.net_.raw_maps(x.to(self.device_)).cpu()
