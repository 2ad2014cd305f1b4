"""Weights averaged over the steps of a training."""

from contextlib import contextmanager

import torch


class Averages:
    r"""The mean of weights, and of running statistics, over the steps of a phase.

    Parameters
    ----------
    network : Network
        What is trained; its frozen parts are left out.
    decay : float or None
        Of the exponential average :math:`\bar w \leftarrow d \bar w + (1 - d) w` after
        each step, of which the first are :math:`(1 + t) / (10 + t)` where that is less,
        so that the weights of the beginning are forgotten; None is the plain mean of
        the weights after each epoch.
    """

    def __init__(self, network, decay):
        self.network, self.decay = network, decay
        self.mean = {
            name: value.detach().clone()
            for name, value in network.trained_state().items()
            if value.is_floating_point()
        }
        self.n_steps = self.n_epochs = 0

    @property
    def has_any(self):
        """Whether anything was averaged by now."""
        return (self.n_epochs if self.decay is None else self.n_steps) > 0

    def _own(self):
        state = self.network.trained_state()
        return [state[name] for name in self.mean]

    def _blend(self, share):
        with torch.no_grad():
            torch._foreach_lerp_(list(self.mean.values()), self._own(), share)

    def step(self):
        """Take in the weights after a step of all optimizers."""
        self.n_steps += 1
        if self.decay is not None:
            t = self.n_steps
            self._blend(1 - min(self.decay, (1 + t) / (10 + t)))

    def end_epoch(self):
        """Take in the weights after an epoch."""
        self.n_epochs += 1
        if self.decay is None:
            self._blend(1 / self.n_epochs)

    def apply(self):
        """Give the network the averaged weights."""
        with torch.no_grad():
            torch._foreach_copy_(self._own(), list(self.mean.values()))

    @contextmanager
    def applied(self):
        """Give the network the averaged weights for a while."""
        before = [value.clone() for value in self._own()]
        self.apply()
        try:
            yield
        finally:
            with torch.no_grad():
                torch._foreach_copy_(self._own(), before)

    def state_dict(self):
        """Return the averages, for checkpoints."""
        return {"mean": self.mean, "taken": (self.n_steps, self.n_epochs)}

    def load_state_dict(self, state):
        """Go on from the averages of a checkpoint."""
        self.mean = state["mean"]
        self.n_steps, self.n_epochs = state["taken"]
