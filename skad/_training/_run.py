"""One fit of a network: its phases, patience, and the checkpoints it goes on from."""

import copy
from contextlib import nullcontext, suppress
from functools import partial
from inspect import signature

import numpy as np
import torch
from skorch.callbacks import Callback, LRScheduler

from skad._training._advice import Pace
from skad._training._arguments import epochs_of
from skad._training._averages import Averages
from skad._training._batches import Batches, resident
from skad._training._loop import Loop, Stop
from skad._training._schedules import Schedules
from skad._training._seeds import seed_generators
from skad._training._states import CallbackStates

OPTIMIZERS = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": torch.optim.SGD,
    "rmsprop": torch.optim.RMSprop,
}


class _EpochEnd(Callback):
    """Seeds, reports, watches the validation loss and saves, once an epoch."""

    def __init__(self, training, phase, first, steps):
        self.training, self.phase = training, phase
        self.first, self.steps, self.n_begun = first, steps, 0

    def on_epoch_begin(self, net, **parameters):
        if next(self.steps, None) is None:
            raise Stop  # a callback of scikit-learn's said so
        epoch = self.training.n_epochs + 1
        seed_generators((self.training.seed + epoch) % 2**31, self.training.device)

    def on_batch_end(self, net, training=False, **parameters):
        if training:
            self.training.pace.step()

    def on_epoch_end(self, net, asked_to_stop=False, **parameters):
        self.n_begun += 1
        training, network = self.training, net.module_
        network.eval()
        if training.averages is not None:
            training.averages.end_epoch()
        with torch.no_grad():
            network.end_epoch(self.phase, training.in_order)
        training.record(self.phase, net.history[-1])
        stop = training.watch(network, net.history[-1].get("valid_loss"))
        loss = float(net.history[-1]["train_loss"])
        stop = stop or asked_to_stop or network.is_learned(self.phase, loss)
        if training.checkpoint is not None:
            training.save(network, net, stop)
        if stop:
            raise Stop


def _over_all_optimizers(callback):
    """Return a callback that moves the learning rates of all optimizers."""
    if isinstance(callback, tuple):
        return callback[0], _over_all_optimizers(callback[1])
    return Schedules(callback) if isinstance(callback, LRScheduler) else callback


def _refuse_closures(optimizer, name):
    """Raise for an optimizer, or a class, whose steps compute the loss themselves."""
    step = getattr(optimizer, "step", None)
    closure = step and signature(step).parameters.get("closure")
    if closure is not None and closure.default is closure.empty:
        raise ValueError(
            f"optimizer={name} computes the loss several times a step, by a closure, "
            "which this loop has none of: take one that steps on given gradients, such "
            "as optimizer='adam' or optimizer=torch.optim.NAdam."
        )


class Training:
    """One fit of a network: phases, patience, checkpoints.

    Parameters
    ----------
    detector : TorchDetector
        The parameters of the training.
    x, y : tensor of shape (n, ...), tensor of shape (n,) or None
        The samples and their labels.
    seed : int
        Of everything that is drawn.
    given : tuple of X and y
        The training data as the detector got them, for callbacks that score.
    split : tuple of ndarray or None
        Indices of samples that are held out and of those to train on; None and None is
        all.
    n_epochs : int or None
        Epochs of each phase instead of the detector's own.
    """

    def __init__(self, detector, x, y, seed, given, split, n_epochs=None):
        self.detector, self.device, self.seed = detector, detector.device_, seed
        self.given, self.only = given, n_epochs
        self.n_epochs, self.history = 0, []
        self.best = self.misses = self.averages = None
        self.asked, self.phase_epochs, self.loop = {}, 0, None
        x = resident(x, self.device)
        y = None if y is None else y.to(x.device)  # one index serves both
        make = partial(
            Batches, batch_size=detector.batch_size, device=torch.device(self.device)
        )
        # what is computed when it is asked for is not asked for all at once
        select = getattr(x, "subset", x.__getitem__)
        self.valid = self.held = None
        held, kept = (
            None if rows is None else torch.from_numpy(rows).to(x.device)
            for rows in split
        )
        # passes that train nothing take as many samples at once as scores do
        rows = max(detector.batch_size, detector._block_rows(self.device))
        whole = partial(make, batch_size=rows, shuffle=False)
        if held is not None and len(held):
            out = select(held), None if y is None else y[held]
            self.held = partial(whole, *out)
            if detector.patience is not None:
                self.valid = make(*out, shuffle=False)
        if kept is not None:
            x, y = select(kept), None if y is None else y[kept]
        self.train = make(x, y, shuffle=True, share=detector._anomaly_share())
        self.in_order = partial(whole, x, y)
        self.checkpoint, self.pace = None, Pace(self)

    def run(self, network, saved=None):
        """Train `network` through its phases, from a saved state where there is one."""
        detector, skip = self.detector, 0
        self.phases, self.phase = network.phases, network.phases[0]
        # a network that was trained before can score whatever is left out
        self.is_made = bool(self.history)
        if self.history and saved is None:
            self.phases = network.warm_phases or network.phases
            self.phase = self.phases[0]
        if saved is not None:
            network.load_state_dict(saved["network"], strict=False)
            self.history, self.n_epochs = saved["history"], saved["n_epochs"]
            skip = self.phases.index(saved["phase"])
        for i, phase in enumerate(self.phases):
            asked = self.only or detector._epochs(phase)
            n = len(self.train.x)
            self.asked[phase] = epochs_of(asked, n, detector._most_epochs())
            if saved is not None and i <= skip:
                self._check_epochs(phase, saved, is_over=i < skip)
        for i, phase in enumerate(self.phases[skip:], start=skip):
            self.phase, self.loop = phase, None
            resumed = saved is not None and i == skip
            done = saved["phase_epochs"] if resumed else 0
            self.phase_epochs = done
            n_epochs = self.asked[phase] - done
            if resumed and saved["stopped"]:
                n_epochs = 0
            network.eval()
            if not resumed:
                with torch.no_grad():
                    network.begin(phase, self.in_order)
            self.best, self.misses = (None, 0) if not resumed else saved["best"]
            later = sum(self.asked[one] for one in self.phases[i + 1 :])
            self.pace.begin((n_epochs + later) * len(self.train))
            self._run_phase(network, phase, done, n_epochs, saved if resumed else None)
            self._take_best(network)
        self._check_weights(network)

    def _check_weights(self, network):
        """Raise where the last step, which no loss came after, led to no weights."""
        for name, weight in network.named_parameters():
            if not (network.is_frozen(name) or bool(weight.isfinite().all())):
                raise ValueError(
                    f"The weights are not finite after epoch {self.n_epochs} with lr="
                    f"{self.detector.lr}: lower lr, or scale the features if they are "
                    "too large."
                )

    def _check_epochs(self, phase, saved, is_over):
        """Raise where a checkpoint has other epochs than can be reached from it."""
        was, asked = saved["asked"][phase], self.asked[phase]
        if is_over and was != asked:
            raise ValueError(
                f"checkpoint={self.checkpoint.given!r} is past the phase {phase!r} of "
                f"{was} epochs, for which {asked} are asked now. Set it back, pass "
                "another folder, or remove the file to start anew."
            )
        if not is_over and saved["phase_epochs"] > asked:
            raise ValueError(
                f"checkpoint={self.checkpoint.given!r} holds {saved['phase_epochs']} "
                f"epochs of the phase {phase!r}, more than the {asked} that are asked "
                "for. Ask for as many or more, pass another folder, or remove the file "
                "to start anew."
            )

    def _take_best(self, network):
        """Give the network the averaged weights, or the best that patience found."""
        if self.averages is not None and self.averages.has_any:
            self.averages.apply()
        if self.best is not None:
            network.load_state_dict(self.best[1], strict=False)

    def settle(self, network):
        """Make an interrupted network ready to score; return the phases left out.

        Raises KeyboardInterrupt where scores need what no step was taken for.
        """
        self._take_best(network)
        at = self.phases.index(self.phase)
        begun = self.phase_epochs > 0 or (self.loop is not None and self.loop.n_steps)
        left_out = self.phases[at + 1 if begun else at :]
        needed = [one for one in left_out if one not in network.optional_phases]
        if needed and not self.is_made:
            raise KeyboardInterrupt(
                f"on_interrupt='keep' has nothing to keep: the fit was interrupted "
                f"in the phase {self.phase!r}, and a {type(self.detector).__name__} "
                f"cannot score before it has begun to learn in {needed[-1]!r}. The "
                "detector stays as it was before the fit."
            )
        network.eval()
        with torch.no_grad():
            for phase in left_out:
                network.begin(phase, self.in_order)
        return left_out

    def _run_phase(self, network, phase, done, n_epochs, saved):
        detector = self.detector
        steps = detector._steps(
            range(n_epochs),
            f"{phase} epochs",
            n_epochs,
            may_stop=True,
            state={
                "X": self.given[0],
                "y": self.given[1],
                "reconstruction_attributes": partial(self._as_if_done, network),
            },
        )
        average = detector._averages(phase)
        self.averages = Averages(network, **average) if average is not None else None
        given = self._callbacks(phase)
        end = _EpochEnd(self, phase, done, steps)
        loop = self.loop = Loop(
            module=network,
            criterion=torch.nn.Identity,
            lr=detector.lr,
            max_epochs=n_epochs,
            train_split=None,
            callbacks=[*given, end],
            callbacks__print_log=None,
            verbose=0,
            device=self.device,
        )
        fp16 = detector.amp == "fp16"
        watched = phase not in network.unwatched_phases
        loop.held = {
            "phase": phase,
            "end": end,
            "valid": self.valid if watched else None,
            "optimizer": partial(self._optimizer, phase),
            "averages": self.averages,
            "privacy": detector._privacy(),
            "amp": detector.amp,
            "scaler": torch.amp.GradScaler(self.device) if fp16 else None,
        }
        loop.initialize()
        # schedules begin on new optimizers, and go on after both are loaded
        loop.notify("on_train_begin", X=None, y=None)
        bare = [one[1] if isinstance(one, tuple) else one for one in given]
        self.states = CallbackStates(loop.callbacks_, bare)
        if saved is not None:
            self._go_on(loop, saved)
        with suppress(Stop):
            loop.fit_loop(self.train, epochs=n_epochs)
        steps.close()
        loop.notify("on_train_end", X=None, y=None)

    def _callbacks(self, phase):
        """Return copies of the user's callbacks, and of the method's not replaced."""
        given = copy.deepcopy(list(self.detector.callbacks or ()))
        kinds = [one[1] if isinstance(one, tuple) else one for one in given]
        own = [
            one
            for one in self.detector._own_callbacks(phase, self.asked[phase])
            if not any(isinstance(other, type(one)) for other in kinds)
        ]
        return [_over_all_optimizers(one) for one in (*own, *given)]

    def _optimizer(self, phase, group, weights):
        """Return the optimizer of a group of weights."""
        detector = self.detector
        own = dict(detector._optimizer_of(phase, group))
        chosen = own.pop("optimizer", detector.optimizer)
        optimizer = OPTIMIZERS.get(chosen, chosen)
        name = getattr(chosen, "__name__", repr(chosen))
        _refuse_closures(optimizer, name)
        known = signature(optimizer).parameters  # SGD has no betas
        options = {k: v for k, v in detector._optimizer_options.items() if k in known}
        takes_all = any(one.kind is one.VAR_KEYWORD for one in known.values())
        if takes_all or "weight_decay" in known:
            options["weight_decay"] = detector.weight_decay
        elif detector.weight_decay:
            raise ValueError(
                f"optimizer={name} takes no weight_decay, and weight_decay="
                f"{detector.weight_decay} is given: pass weight_decay=0."
            )
        if isinstance(chosen, str) and "fused" in known:
            options["fused"] = True  # one call for all weights
        made = optimizer(weights, **{"lr": detector.lr, **options, **own})
        _refuse_closures(made, name)
        return made

    def _as_if_done(self, network):
        """Return the fitted attributes as if the fit ended here, for callbacks."""
        swapped = nullcontext() if self.averages is None else self.averages.applied()
        with swapped:
            return self.detector._reconstruct(network, self)

    def _go_on(self, loop, saved):
        """Bring optimizers, callbacks and averages to where they were."""
        for name, updater in loop.updaters.items():
            updater.load_state_dict(saved["updaters"][name])
        self.states.load_state_dict(saved["callbacks"])
        if self.averages is not None:
            self.averages.load_state_dict(saved["averages"])

    def record(self, phase, row):
        """Add one epoch to the history: its losses and seconds."""
        self.n_epochs += 1
        self.phase_epochs += 1
        entry = {"epoch": self.n_epochs, "phase": phase, "seconds": row["dur"]}
        for name, value in row.items():
            if name.endswith("_loss") and "best" not in name:
                entry[name] = float(value)
        groups = {name for batch in row["batches"] for name in batch}
        for name in sorted(groups - set(entry)):
            if name.endswith("_loss"):
                values = [batch[name] for batch in row["batches"] if name in batch]
                entry[name] = float(np.mean(values))
        self.history.append(entry)

    def watch(self, network, loss):
        """Keep the best state; tell whether patience is at its end."""
        if self.detector.patience is None or loss is None:
            return False
        if self.best is None or loss < self.best[0]:
            state = network.trained_state()
            if self.averages is not None:
                state |= self.averages.mean
            state = {k: v.detach().clone() for k, v in state.items()}
            self.best, self.misses = (float(loss), state), 0
            return False
        self.misses += 1
        return self.misses >= self.detector.patience

    def save(self, network, loop, stopped):
        """Write the state of the training."""
        self.checkpoint.write(
            {
                "seed": self.seed,
                "phase": self.phase,
                "phase_epochs": self.phase_epochs,
                "asked": self.asked,
                "n_epochs": self.n_epochs,
                "stopped": stopped,
                "history": self.history,
                "network": network.trained_state(),
                "updaters": {k: each.state_dict() for k, each in loop.updaters.items()},
                "callbacks": self.states.state_dict(),
                "averages": self.averages and self.averages.state_dict(),
                "best": (self.best, self.misses),
            }
        )
