"""What goes over all optimizers of a phase: schedules of their learning rates."""

import copy
import math
from functools import partial

from skorch.callbacks import Callback, GradientNormClipping, LRScheduler
from torch.optim.lr_scheduler import LambdaLR, MultiStepLR, PolynomialLR, StepLR


def clipped(largest_norm):
    """Return the callbacks that shorten gradients whose norm, of all, is larger."""
    return (GradientNormClipping(gradient_clip_value=largest_norm),)


def lower_after(n_epochs, shares, factor):
    """Return the callbacks that multiply learning rates after shares of the epochs.

    Shares that are less than an epoch are none: the first has the whole rate.
    """
    ends = [end for end in (int(share * n_epochs) for share in shares) if end]
    return (LRScheduler(MultiStepLR, milestones=ends, gamma=factor),)


def lower_at_the_end(n_epochs, share, factor):
    """Return the callbacks that multiply learning rates in the last of some epochs.

    Parameters
    ----------
    n_epochs : int
        Epochs of the phase.
    share : float
        Of these, rounded down, have the lower rate; where none do there is no callback.
    factor : float
        What the rates are multiplied by.
    """
    last = int(share * n_epochs)
    if not last:
        return ()
    return (LRScheduler(StepLR, step_size=n_epochs - last, gamma=factor),)


def _warm_cosine(epoch, n_epochs, n_warm, start, end):
    """Return what the learning rate of an epoch, from 0, is multiplied by."""

    def cosine(epoch):
        return end + (1 - end) * (1 + math.cos(math.pi * epoch / n_epochs)) / 2

    if epoch >= n_warm:
        return cosine(epoch)
    return start + (cosine(n_warm) - start) * epoch / n_warm


def warm_cosine(n_epochs, warm=0.08, start=0.1, end=1e-3):
    """Return the callbacks of rates that rise, then fall as half a cosine does.

    As CFLOW's authors have it, but for steps: theirs rise with each batch.

    Parameters
    ----------
    n_epochs : int
        Epochs of the phase.
    warm : float, default=0.08
        Share of these, rounded down, in which rates rise.
    start, end : float
        What the rates are multiplied by at the beginning, and at the end.
    """
    n_warm = int(warm * n_epochs)
    factor = partial(
        _warm_cosine, n_epochs=n_epochs, n_warm=n_warm, start=start, end=end
    )
    return (LRScheduler(LambdaLR, lr_lambda=factor),)


def _warm_steps(epoch, n_warm, ends, factor):
    """Return what the learning rate of an epoch, from 0, is multiplied by."""
    rising = min(1.0, (epoch + 1) / max(1, n_warm))
    return rising * factor ** sum(epoch >= end for end in ends)


def warm_then_lower(n_epochs, warm, shares, factor):
    """Return the callbacks of rates that rise, then are multiplied after shares.

    Parameters
    ----------
    n_epochs : int
        Epochs of the phase.
    warm : float
        Share of these, rounded down, in which rates rise evenly.
    shares : tuple of float
        Of the epochs, after which rates are multiplied; less than an epoch is none.
    factor : float
        By what.
    """
    ends = [end for end in (int(share * n_epochs) for share in shares) if end]
    known = {"n_warm": int(warm * n_epochs), "ends": tuple(ends), "factor": factor}
    return (LRScheduler(LambdaLR, lr_lambda=partial(_warm_steps, **known)),)


def polynomial(n_epochs, power):
    """Return the callbacks of rates that fall to zero as a power of the rest does."""
    return (LRScheduler(PolynomialLR, total_iters=n_epochs, power=power),)


class _LowerOne(Callback):
    """Multiplies the learning rate of one of several optimizers after some epochs."""

    def __init__(self, group, after, factor):
        self.group, self.after, self.factor = group, after, factor
        self.n_before = 0

    def on_epoch_end(self, net, **parameters):
        """Count the epoch, and lower the rate after the last that has the whole one."""
        self.n_before += 1
        if self.n_before == self.after:
            for part in net.updaters[self.group].param_groups:
                part["lr"] *= self.factor

    def state_dict(self):
        """Return how many epochs are done, for checkpoints."""
        return {"n_before": self.n_before}

    def load_state_dict(self, state):
        """Go on with as many; the optimizer knows its rate itself."""
        self.n_before = state["n_before"]


def lower_one(group, n_epochs, share, factor):
    """Return the callbacks that multiply one optimizer's rate after a share of epochs.

    Parameters
    ----------
    group : str
        The name of the optimizer's group of weights.
    n_epochs : int
        Epochs of the phase.
    share : float
        Of these, rounded down, have the whole rate; where none do it stays.
    factor : float
        What the rate is multiplied by.
    """
    return (_LowerOne(group, int(share * n_epochs), factor),)


class _ShareOfEpochs(Callback):
    """Tells the network which share of its epochs is done."""

    def __init__(self, n_epochs):
        self.n_epochs, self.n_before = n_epochs, 0

    def on_epoch_begin(self, net, **parameters):
        """Tell it."""
        net.module_.share_done = self.n_before / self.n_epochs

    def on_epoch_end(self, net, **parameters):
        """Count the epoch."""
        self.n_before += 1

    def state_dict(self):
        """Return how many epochs are done, for checkpoints."""
        return {"n_before": self.n_before}

    def load_state_dict(self, state):
        """Go on with as many."""
        self.n_before = state["n_before"]


def share_of_epochs(n_epochs):
    """Return the callbacks that keep a network's `share_done`, in 0..1.

    Parameters
    ----------
    n_epochs : int
        Epochs of the phase.
    """
    return (_ShareOfEpochs(n_epochs),)


class Schedules(Callback):
    """A `skorch.callbacks.LRScheduler` for each optimizer, where skorch knows but one.

    Parameters
    ----------
    schedule : LRScheduler
        Is copied for each optimizer; the first one's rate is told to the history.
    """

    def __init__(self, schedule):
        self.schedule = schedule

    def on_train_begin(self, net, **parameters):
        """Begin the schedules of the optimizers, which are new."""
        self.each_ = []
        for updater in net.updaters.values():
            one = copy.deepcopy(self.schedule)
            if self.each_:
                one.event_name = None
            view = _OneOptimizer(net, updater)
            one.initialize().on_train_begin(view, **parameters)
            self.each_.append((one, view))

    def on_batch_end(self, net, **parameters):
        """Pass the end of a batch on."""
        for one, view in self.each_:
            one.on_batch_end(view, **parameters)

    def on_epoch_end(self, net, **parameters):
        """Pass the end of an epoch on."""
        for one, view in self.each_:
            one.on_epoch_end(view, **parameters)

    def state_dict(self):
        """Return where the schedules are, for checkpoints."""
        return {"each": [one.lr_scheduler_.state_dict() for one, _ in self.each_]}

    def load_state_dict(self, state):
        """Go on where schedules were; the optimizers know their rates themselves."""
        for (one, _), own in zip(self.each_, state["each"], strict=True):
            one.lr_scheduler_.load_state_dict(own)


class _OneOptimizer:
    """A net of skorch's as one of several optimizers sees it."""

    def __init__(self, net, optimizer):
        self._net, self.optimizer_ = net, optimizer

    def __getattr__(self, name):
        return getattr(self._net, name)
