"""What callbacks have learned in a training, and whether a checkpoint can hold it."""

import warnings

import joblib


class CallbackStates:
    """Saves and loads the states of callbacks, and says which of them are lost.

    What a callback is without `state_dict` is lost with a fit that is killed. That
    matters where its attributes change from epoch to epoch, as those of skorch's
    `EarlyStopping` do: then the user is told, once.

    Parameters
    ----------
    callbacks : list of (str, callback)
        Those of a loop that is about to begin.
    given : list of callback
        Those that the user or the method brought along.
    """

    def __init__(self, callbacks, given):
        self.savable = {
            name: one
            for name, one in callbacks
            if hasattr(one, "state_dict") and hasattr(one, "load_state_dict")
        }
        savable = {id(one) for one in self.savable.values()}
        self.others = [
            (type(one).__name__, one, _print_of(one))
            for one in given
            if id(one) not in savable
        ]
        self.told = set()

    def state_dict(self):
        """Return the states, and the names of callbacks whose state is lost."""
        lost = [name for name, one, before in self.others if _print_of(one) != before]
        self._tell(lost, "is not saved: a fit that goes on from it begins")
        return {
            "states": {name: one.state_dict() for name, one in self.savable.items()},
            "lost": lost,
        }

    def load_state_dict(self, state):
        """Bring callbacks to where they were."""
        for name, own in state["states"].items():
            if name in self.savable:
                self.savable[name].load_state_dict(own)
        present = {name for name, _, _ in self.others}
        lost = [name for name in state["lost"] if name in present]
        self._tell(lost, "was not saved: this fit begins")

    def _tell(self, lost, what):
        for name in set(lost) - self.told:
            self.told.add(name)
            warnings.warn(
                f"callbacks={name} has no state_dict and load_state_dict, so that what "
                f"it has noted by the time of the checkpoint {what} with a new {name}.",
                stacklevel=3,
            )


def _print_of(callback):
    """Return a hash of the attributes of a callback, None where there is none."""
    try:
        return joblib.hash(vars(callback))
    except Exception:  # of anything that is not to be pickled
        return None
