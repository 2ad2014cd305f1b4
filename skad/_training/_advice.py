"""Warnings of a fit: that it will take long, or that scores may be worth little.

No labels are needed to see the latter: features far from unit scale, and
reconstructions that are no better than the mean sample.
"""

import math
import sys
import time
import warnings

import torch

from skad._array import namespace
from skad._off_origin import off_origin

# Root mean squares of the largest feature beyond which Adam's steps and the initial
# weights, both made for values around one, are far off.
_LARGE, _SMALL = 100.0, 0.01
# Deviations that the mean of a feature is off zero, beyond which the first layer, and
# random features behind it, see the mean and little else.
_OFF = 6.0
# Samples that are held out at least, for their errors to be compared.
_FEWEST = 10
# Samples that are rebuilt at most.
_MOST = 4096
# Seconds of a fit that are worth a word, and of steps that tell how fast it is.
_LONG, _LOOK = 1800.0, 10.0
# Whose calls a fit is made of: a warning stands where somebody else called it.
_INSIDE = ("skad", "skorch", "sklearn", "torch")


class TrainingWarning(UserWarning):
    """Scores of a network that was trained are likely to be worth little."""


def warn_of_scale(detector, X):
    """Warn of rows (n, d) whose features are far from unit scale, once for a fit.

    Or off zero, constant ones among them.
    """
    if detector._is_copy or not detector._wants_unit_scale():
        return
    xp, name = namespace(X), type(detector).__name__
    size = math.sqrt(float(xp.max(xp.mean(X * X, axis=0))))
    if size == 0:
        return
    if not _SMALL <= size <= _LARGE:
        found = f"The largest feature of X has a root mean square of {size:.2g}"
        around = 1
    else:
        times, feature, mean = off_origin(X)
        if times <= _OFF:
            return
        feature = getattr(detector, "feature_names_in_", range(X.shape[1]))[feature]
        found = (
            f"Feature {feature!r} is {mean:.2g} in the mean, {times:.2g} times what "
        )
        found += "features deviate from their means"
        around = 0
    warnings.warn(
        f"{found}, and networks learn from values around {around}: write "
        f"make_pipeline(StandardScaler(), {name}(...)).",
        TrainingWarning,
        stacklevel=6,
    )


def warn_of_rebuilding(detector, network, training):
    """Warn where a network rebuilds normal samples no better than their mean does.

    Those that were held out are compared if they are enough, else those trained on.
    """
    # asked of the network first: to see one batch of it, a backbone has to run
    if detector._is_copy or not network.rebuilds:
        return
    pair = None if training.held is None else _rebuilt(network, training.held)
    few = pair is None or len(pair[0]) < _FEWEST
    found = _errors(*(_rebuilt(network, training.in_order) if few else pair))
    if found is None or not found[0] >= found[1]:
        return
    error, mean, name = *found, type(detector).__name__
    kind = "the training samples" if few else "samples that were held out"
    scale = ""
    if detector._wants_unit_scale():
        scale = f", or write make_pipeline(StandardScaler(), {name}(...))"
    epochs = training.asked[training.phase]
    warnings.warn(
        f"{name} rebuilds {kind} no better than their mean does: the median squared "
        f"errors are {error:.3g} and {mean:.3g}, so that its scores say little of what "
        f"is normal. Train longer (max_epochs={epochs} now), with another lr{scale}.",
        TrainingWarning,
        stacklevel=6,
    )


class Pace:
    """How fast a fit is; says once, after its first steps, when it will take long.

    Parameters
    ----------
    training : Training
        The fit, whose phases may have steps of different cost.
    """

    def __init__(self, training):
        detector = self.detector = training.detector
        self.training = training
        # pieces of a stream are as long as they are
        self.is_told = detector._is_copy or training.only is not None

    def begin(self, n_steps):
        """Begin a phase; `n_steps` are left in it and in those behind it."""
        self.n_steps, self.n_done, self.start = n_steps, 0, None
        self.is_known = self.is_told

    def step(self):
        """Take a step into account."""
        if self.is_known:
            return
        now = time.perf_counter()
        if self.start is None:  # what is done once is in the first step
            self.start = now
            return
        self.n_done += 1
        seconds = now - self.start
        if seconds < _LOOK:
            return
        self.is_known = True
        if seconds / self.n_done * self.n_steps > _LONG:
            self.is_told = True
            self._tell(seconds)

    def _tell(self, seconds):
        detector, name = self.detector, type(self.detector).__name__
        minutes = seconds / self.n_done * self.n_steps / 60
        names = dict.fromkeys((*detector._epoch_parameters, *detector._costly))
        lower = [f"{each} ({getattr(detector, each)!r} now)" for each in names]
        end = " if nothing ends it before" if detector.patience is not None else ""
        gpu = ", take a GPU (device='cuda')" if detector.device_ == "cpu" else ""
        warnings.warn(
            f"{name} took {seconds:.0f} s for {self.n_done} of {self.n_steps} steps, "
            f"so that the fit takes about {minutes:.0f} minutes{end}. Lower "
            f"{' or '.join(lower)}{gpu} or pass on_interrupt='keep' and interrupt it "
            "when it has to end.",
            TrainingWarning,
            stacklevel=_calls_inside(),
        )


def _calls_inside():
    """Return the `stacklevel`, in the caller, of the first call from outside."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None:
        if frame.f_globals.get("__name__", "").split(".")[0] not in _INSIDE:
            break
        frame, level = frame.f_back, level + 1
    return level


def _rebuilt(network, batches):
    """Return samples (n, d), as losses take them, and their reconstructions."""
    pairs, n = [], 0
    with torch.no_grad():
        for x, _ in batches():
            pair = network.rebuilt(x)
            pairs.append([one.flatten(1).double().cpu() for one in pair])
            n += len(x)
            if n >= _MOST:
                break
    return tuple(torch.cat(parts) for parts in zip(*pairs, strict=True))


def _errors(x, made):
    """Return the median error of the reconstruction and that of the mean sample.

    None where there is nothing to rebuild.
    """
    n = len(x)
    if n < 2:
        return None
    # as if the mean were of other samples
    apart = (x - x.mean(0)).square().mean(1) * n / (n - 1)
    # constant features, up to rounding
    if float(apart.mean()) <= 1e-12 * float(x.square().mean()):
        return None
    # medians: a few samples far out, where a network goes wrong, do not decide
    return float((x - made).square().mean(1).median()), float(apart.median())
