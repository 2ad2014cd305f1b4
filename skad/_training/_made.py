"""What a network was made with, and whether another can take its weights."""


def made_with(detector):
    """Return how the parameters read that the training itself does not have.

    As text: of a class or a module of a user's the name is all that is wanted.
    """
    from skad._training._detector import TorchDetector

    names = set(detector._get_param_names()) - set(TorchDetector._get_param_names())
    return {name: repr(getattr(detector, name)) for name in sorted(names)}


def go_on_from(detector, network):
    """Give a new network the weights of the detector's last one, or raise."""
    known, name = detector.net_, type(detector).__name__
    state, new = known.state_dict(), network.state_dict()
    if _shapes(state) == _shapes(new):
        network.load_state_dict(state)
        return
    before, now = getattr(detector, "_made_with_", {}), made_with(detector)
    other = [one for one in now if one in before and before[one] != now[one]]
    was = ", ".join(f"{one}={before[one]}" for one in other) or "other shapes"
    is_ = ", ".join(f"{one}={now[one]}" for one in other) or "these parameters"
    raise ValueError(
        f"This {name} goes on with the network of its last fit, which was made with "
        f"{was}, and now has {is_}: the weights do not fit. Set it back, or begin anew "
        "by fit with warm_start=False."
    )


def _shapes(state):
    return {name: tuple(value.shape) for name, value in state.items()}
