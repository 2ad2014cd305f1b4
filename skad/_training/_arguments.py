"""A network's arguments: checked, worked out, and handed over by their names."""

from inspect import signature
from numbers import Integral

# What ``max_epochs="auto"`` takes at most: epochs, and samples seen in all of them.
# Three times as many make a one-class network forget, an autoencoder is no better for
# them (defaults_deepsvdd_large.tsv, defaults_autoencoder.tsv in benchmarks/results).
EPOCHS, _SEEN = 50, 128_000


def from_parameters(detector, network, *arguments, **others):
    """Return a network whose arguments are the detector's parameters of those names.

    Parameters
    ----------
    detector : BaseDetector
        Has the parameters.
    network : class
        A `Network`.
    *arguments
        What comes first in its constructor.
    **others
        What the detector has no parameter for, or has worked out from one.
    """
    known = set(detector._get_param_names()) - set(others)
    names = [name for name in signature(network).parameters if name in known]
    return network(
        *arguments, **{name: getattr(detector, name) for name in names}, **others
    )


def epochs_of(asked, n_samples, most=EPOCHS):
    """Return how many epochs `asked` is: a number, or "auto" for so many samples."""
    if asked != "auto":
        return asked
    return max(1, min(most, round(_SEEN / n_samples)))


def check_sizes(detector):
    """Raise unless the elements of `hidden_sizes`, where there are any, are sizes."""
    sizes = getattr(detector, "hidden_sizes", None)
    for size in sizes or ():
        if not isinstance(size, Integral) or isinstance(size, bool) or size < 1:
            raise ValueError(
                f"hidden_sizes={sizes!r} must be whole numbers of at least 1; one is "
                f"{size!r}."
            )
