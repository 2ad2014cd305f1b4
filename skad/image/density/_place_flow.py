"""Flows on the features of single places, told where these are: what they share."""

from numbers import Integral

from skad._parameters import with_parameters
from skad._sklearn import Interval, StrOptions
from skad._training import from_parameters, warm_cosine
from skad.image._trained import TrainedImageDetector

# What the logarithms of scales are bounded by.
_CLAMP = 1.9


@with_parameters
class PlaceFlowDetector(TrainedImageDetector):
    """Base of detectors with a flow for each layer, on single places.

    Parameters
    ----------
    n_steps : int, default=8
        Coupling blocks of a flow.
    condition_size : int, default=128
        Length of the code of a place, a multiple of four.
    fiber_batch_size : int, default=256
        Patches of a training step: a batch of pictures is taken apart into them.
    schedule : {"cosine"} or None, default=None
        Of the learning rates: "cosine" lets them rise from a tenth in the first 8 % of
        the epochs, then fall to a thousandth as half a cosine does, as the authors
        have it, batch by batch, for 2 of their 25 epochs; None leaves them.
    layers : tuple of str or None, default=None
        Names of the layers whose features are transformed; None is the first three of a
        ResNet, and all of the bank of filters.
    max_epochs : int, default=200
        Passes over the training pictures; the authors' 25 times 8.
    random_state : int, RandomState instance or None, default=None
        Draws weights, permutations and batches. Pass an int for reproducible results.
    """

    n_steps: int = 8
    condition_size: int = 128
    fiber_batch_size: int = 256
    schedule: str | None = None
    max_epochs: int = 200
    batch_size: int = 32
    lr: float = 4e-3

    _parameter_constraints = {
        "n_steps": [Interval(Integral, 1, None, closed="left")],
        "condition_size": [Interval(Integral, 4, None, closed="left")],
        "fiber_batch_size": [Interval(Integral, 2, None, closed="left")],
        "schedule": [StrOptions({"cosine"}), None],
    }

    def _own_callbacks(self, phase, n_epochs):
        return () if self.schedule is None else warm_cosine(n_epochs)

    def _network(self, shapes):
        return from_parameters(self, self._network_class, shapes, clamp=_CLAMP)
