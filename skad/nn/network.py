"""What a method that is trained with gradients states, and nothing about how."""

import torch
from torch import nn

from skad.nn.attribution import integrated_gradients


class Network(nn.Module):
    """A module that states its losses and its scores; the one loop trains it.

    A method writes `loss`, `anomaly` and `map`, and what it needs of the rest. Samples
    are tensors of shape (b, d) for rows and (b, c, h, w) for images. What is learned
    from whole epochs (a centre, a radius, a mixture) is kept in buffers, so that it
    travels with the weights.
    """

    # Phases of the training in order; the loop makes new optimizers for each.
    phases = ("fit",)
    # Those that a network which is trained already goes through again; None is all.
    warm_phases = None
    # Names of parts that stay as they are, such as a teacher: no optimizer gets them,
    # no checkpoint holds them, and they are never in training mode.
    frozen_parts = ()
    # Phases that a network can do without when a training is interrupted before them:
    # their `begin` leaves nothing that scores need at random.
    optional_phases = ()
    # Phases in which `patience` has nothing to watch: all their epochs are trained.
    unwatched_phases = ()
    # Names of parts whose norms keep their statistics while their weights are trained.
    fixed_statistics = ()

    def groups(self, phase):
        """Return the parameters of each optimizer: a dict of name to parameters.

        Or to a list of dicts with "params", and with "lr" where they have their own.
        Those of `frozen_parts` are left out by the loop.
        """
        return {"all": self.parameters()}

    def is_frozen(self, name):
        """Tell whether a parameter or buffer belongs to a frozen part."""
        return any(name.startswith(f"{part}.") for part in self.frozen_parts)

    def trained_state(self):
        """Return the state without what belongs to frozen parts."""
        state = self.state_dict()
        return {name: one for name, one in state.items() if not self.is_frozen(name)}

    def train(self, mode=True):
        """Set the mode of all parts that have a say in it."""
        super().train(mode)
        if mode:
            for name in self.frozen_parts:
                self.get_submodule(name).eval()
            for name in self.fixed_statistics:
                for part in self.get_submodule(name).modules():
                    if isinstance(part, nn.modules.batchnorm._NormBase):
                        part.eval()
        return self

    def requires_grad_(self, requires_grad=True):
        """Ask for gradients of all weights but the frozen ones, or of none."""
        super().requires_grad_(requires_grad)
        for name in self.frozen_parts:
            self.get_submodule(name).requires_grad_(False)
        return self

    def begin(self, phase, batches):
        """Prepare a phase; `batches()` iterates over (x, y) of the training data."""

    def loss(self, x, y):
        """Return the scalar that training makes small."""
        raise NotImplementedError

    def updates(self, phase, x, y):
        """Yield (group, loss) in the order in which the optimizers take their steps.

        What stands behind a `yield` already sees the updated weights.
        """
        yield "all", self.loss(x, y)

    def watched(self, phase, x, y):
        """Return the scalar that `patience` watches, of samples that are held out."""
        return sum(loss for _, loss in self.updates(phase, x, y))

    def is_learned(self, phase, loss):
        """Tell whether a phase ends early, by the mean training loss of an epoch."""
        return False

    def rebuilt(self, x):
        """Return samples as the losses take them, and as the network rebuilds them."""
        return x, self.reconstruct(x)

    @property
    def rebuilds(self):
        """Whether `rebuilt` has something to return."""
        own = type(self).rebuilt is not Network.rebuilt
        return own or hasattr(self, "reconstruct")

    def end_epoch(self, phase, batches):
        """Update what depends on the whole training data."""

    def finish(self, batches, held=None):
        """Compute what scores need and training does not; called in evaluation mode.

        `held()` iterates over (x, y) of normal samples that were held out of the
        training; it is None where none were.
        """

    def anomaly(self, x):
        """Return how anomalous each sample is, of shape (b,)."""
        return self.map(x).flatten(1).sum(1)

    def map(self, x):
        """Return how anomalous elements are: (b, d) for rows, (b, h, w) for images."""
        raise NotImplementedError

    def inspect(self, x):
        """Return the anomaly and the map, what both need being computed once."""
        maps = self.map(x)
        if type(self).anomaly is Network.anomaly:
            return maps.flatten(1).sum(1), maps
        return self.anomaly(x), maps


def all_but(module, trained, name=""):
    """Return the names of the parts of a module that lie outside of some of them.

    With a network's `backbone`, ``all_but(self.backbone, ("layer4",), "backbone")`` is
    what its `frozen_parts` are when the last stage alone is trained.

    Parameters
    ----------
    module : Module
        A backbone.
    trained : tuple of str
        Names of its parts, of any depth, that are left out.
    name : str, default=""
        Of the module within the network.
    """
    found = []
    for own, child in module.named_children():
        whole = f"{name}.{own}" if name else own
        inside = [
            one.removeprefix(f"{own}.") for one in trained if one.startswith(f"{own}.")
        ]
        if inside:
            found += all_but(child, tuple(inside), whole)
        elif own not in trained:
            found.append(whole)
    return tuple(found)


def over_channels(parts):
    """Return the sum over the channels of images, (b, c, h, w) to (b, h, w)."""
    return parts.sum(1) if parts.ndim == 4 else parts


def mean_sample(batches):
    """Return the mean of the samples that are no known anomalies."""
    total, n = 0.0, 0
    for x, y in batches():
        others = x if y is None else x[y != -1]
        total, n = total + others.sum(0), n + len(others)
    return total / max(n, 1)


class FromMeanNetwork(Network):
    """A network whose map says what elements add to the anomaly of the mean sample.

    Subclasses write `loss` and `anomaly`. The mean is that of the samples that are no
    known anomalies.
    """

    def __init__(self, shape):
        super().__init__()
        self.register_buffer("baseline", torch.zeros(shape))

    def finish(self, batches, held=None):
        """Keep the mean of the samples that are no known anomalies."""
        self.baseline.copy_(mean_sample(batches))

    def map(self, x):
        """Return the integrated gradients of the anomaly from the mean sample."""
        baseline = self.baseline.expand_as(x)
        return over_channels(integrated_gradients(self.anomaly, x, baseline))
