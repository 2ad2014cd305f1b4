"""Pictures whose views a network tells from those of others: what the methods share."""

from collections.abc import Callable, Sequence
from numbers import Integral, Real

from skad._parameters import with_parameters
from skad._sklearn import Interval
from skad._training._pictures import PictureNetworkDetector
from skad._training._schedules import warm_cosine


@with_parameters
class ContrastParameters:
    """What everything has that learns to tell views of a picture from those of others.

    Parameters
    ----------
    architecture : {"auto", "conv", "mlp"} or class, default="auto"
        The encoder. "auto" is a wide residual network, WRN-10-4, whose codes are the
        means of its last maps. A class of modules is called with the shapes (without
        the axis of samples) that it has to lead from and to.
    hidden_sizes : tuple of int or None, default=None
        Channels of the layers between; None is (16, 64, 128) for the residual network,
        of which the first is that of one convolution.
    code_size : int, default=256
        Length of the codes, the channels of the last block of the residual network.
    projection_size : int, default=128
        Length of the projected codes, which the loss is of.
    temperature : float, default=0.5
        What cosines are divided by in the loss.
    least_crop : float, default=0.08
        The least share of a picture that a view of it takes, in (0, 1].
    lr : float, default=0.1
        Learning rate, which rises in the first hundredth of the epochs and then falls
        to zero as half a cosine does.
    """

    hidden_sizes: Sequence[int] | None = None
    code_size: int = 256
    projection_size: int = 128
    temperature: float = 0.5
    least_crop: float = 0.08
    batch_size: int = 32
    lr: float = 0.1
    optimizer: str | Callable = "sgd"

    _parameter_constraints = {
        "code_size": [Interval(Integral, 1, None, closed="left")],
        "projection_size": [Interval(Integral, 1, None, closed="left")],
        "temperature": [Interval(Real, 0, None, closed="neither")],
        "least_crop": [Interval(Real, 0, 1, closed="right")],
    }


@with_parameters
class ContrastiveDetector(ContrastParameters, PictureNetworkDetector):
    """Base of networks that learn to tell views of a picture from those of others."""

    _optimizer_options = {"momentum": 0.9}
    _costly = ("hidden_sizes", "code_size")

    def _row_elements(self):
        return super()._row_elements() + 16 * self.n_features_in_ * self.code_size

    def _own_callbacks(self, phase, n_epochs):
        return warm_cosine(n_epochs, warm=0.01, end=0.0)
