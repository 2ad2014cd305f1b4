"""What networks that learn against a discriminator have in common."""

from collections.abc import Sequence
from numbers import Real

from skad._parameters import with_parameters
from skad._sklearn import Interval, StrOptions
from skad._training import ShapedDetector


@with_parameters
class GameDetector(ShapedDetector):
    """Base of networks that learn against a discriminator.

    Parameters
    ----------
    averaging : float or None, default=None
        Decay, in 0..1, of the average of the weights over the steps, which takes their
        place after the training: the opponents circle around each other, and their mean
        is steadier than their last step. Such as 0.999; None takes the last step.
    dropout : float, default=0.0
        Share, in 0..1, of a discriminator's features that are set to 0 at random in
        each step.
    output_range : {"data"}, tuple of float or None, default=None
        What is made of codes lies in this range, (lowest, highest), by a tanh at the
        end; "data" is the range of the training data, of each feature or of each
        channel of pictures, which later `partial_fit` keeps. None bounds nothing.
    """

    averaging: float | None = None
    dropout: float = 0.0
    output_range: str | Sequence[float] | None = None

    _parameter_constraints = {
        "averaging": [Interval(Real, 0, 1, closed="neither"), None],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "output_range": [StrOptions({"data"}), tuple, list, None],
    }

    def _check_parameters(self, X):
        super()._check_parameters(X)
        given = self.output_range
        if given is None or isinstance(given, str):
            return
        numbers = all(isinstance(end, Real) for end in given)
        if len(given) != 2 or not numbers or not given[0] < given[1]:
            raise ValueError(
                f"output_range={given!r} is no range: give two numbers, the lower one "
                "first, as (-1, 1), or 'data'."
            )

    def _network(self, shape):
        network = super()._network(shape)
        dropout = getattr(self, "dropout", 0.0)  # not all discriminators have it
        network.play_with(shape, dropout, self.output_range)
        return network

    def _averages(self, phase):
        return None if self.averaging is None else {"decay": self.averaging}
