"""A network's arguments, handed over by their names."""

from inspect import signature


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
