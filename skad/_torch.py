"""The one training loop: skorch's, held by every detector that learns by gradients.

A method is a `skad.nn.network.Network`, which states losses and scores, and a
`TorchDetector`, which builds it. Batches are slices of one tensor. Every epoch draws
from a generator seeded with the fit's seed and the epoch's number, so that a run that
is resumed from a checkpoint goes on with the numbers it would have drawn.
"""

import copy
import math
import os
import pathlib
import warnings
import weakref
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from inspect import signature
from itertools import chain, pairwise, repeat
from numbers import Integral, Real

import joblib
import numpy as np
import skorch
import torch
from skorch.callbacks import Callback

from skad._array import is_torch, to_numpy
from skad._parameters import with_parameters
from skad._random import generator
from skad._sklearn import Interval, StrOptions
from skad._validation import check_images, check_labels
from skad.base import CONTAMINATION, BaseDetector

_OPTIMIZERS = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": torch.optim.SGD,
    "rmsprop": torch.optim.RMSprop,
}
_AMP = {"bf16": torch.bfloat16, "fp16": torch.float16}

# Training data up to this size are moved to the device at once, larger ones by batch.
_RESIDENT_BYTES = 2**32
# Elements of samples that are gathered together for batches to come.
_GATHERED_ELEMENTS = 2**16
# Elements of samples that are scored together where batch_size asks for fewer.
_SCORED_ELEMENTS = 2**19
# Numbers that a network computes of a sample at least; larger blocks leave the cache.
_ACTIVATIONS = 768
# Features beyond this overflow float32 within a few layers.
_LARGEST = 1e9

# What `_converted` returned last for networks that are still in use.
_COPIES = weakref.WeakKeyDictionary()


class _Stop(Exception):  # noqa: N818 (no error)
    """Ends a phase of the training early, as patience or a callback asked for."""


@contextmanager
def reproducible(device):
    """Fork the generators of the host and of `device`; deterministic convolutions."""
    device = torch.device(device)
    gpus = [device.index or 0] if device.type == "cuda" else []
    flags = torch.backends.cudnn.flags(
        enabled=torch.backends.cudnn.enabled, benchmark=False, deterministic=True
    )
    with torch.random.fork_rng(devices=gpus), flags if gpus else nullcontext():
        yield


def seed_generators(seed, device):
    """Seed the generators of the host and of `device`, and no other."""
    torch.default_generator.manual_seed(seed)
    device = torch.device(device)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)


def _converted(network, device, dtype):
    """Return a copy of a network in a dtype on a device, kept until weights change."""
    tensors = chain(network.parameters(), network.buffers())
    state = device, dtype, [(one.data_ptr(), one._version) for one in tensors]
    known, converted = _COPIES.get(network, (None, None))
    if known != state:
        converted = copy.deepcopy(network).to(device=device, dtype=dtype)
        _COPIES[network] = state, converted
    return converted


def _as_data(value):
    """Return what identifies a parameter: of a module its structure and its weights."""
    if isinstance(value, torch.nn.Module):
        arrays = [(name, to_numpy(one)) for name, one in value.state_dict().items()]
        return repr(value), arrays
    return value


class Batches:
    """Iterates over (x, y) in slices; a last batch of one joins the one before."""

    def __init__(self, x, y, batch_size, device, shuffle):
        self.x, self.y = x, y
        self.batch_size, self.device, self.shuffle = batch_size, device, shuffle

    def __len__(self):
        return len(self._bounds()) - 1

    def _bounds(self):
        n = len(self.x)
        bounds = [*range(0, n, self.batch_size), n]
        if len(bounds) > 2 and n - bounds[-2] == 1:
            del bounds[-2]
        return bounds

    def __iter__(self):
        x, y = self.x, self.y
        if self.shuffle:
            order = torch.randperm(len(x)).to(x.device)
        # rows are gathered for several batches at once: a call costs more than a row
        elements = self.batch_size * max(1, x[0].numel())
        together = max(1, _GATHERED_ELEMENTS // elements)
        bounds = self._bounds()
        for first in range(0, len(bounds) - 1, together):
            edges = bounds[first : first + together + 1]
            rows = slice(edges[0], edges[-1])
            if self.shuffle:
                rows = order[rows]
            sizes = [stop - start for start, stop in pairwise(edges)]
            parts = x[rows].to(self.device).split(sizes)
            labels = repeat(None) if y is None else y[rows].to(self.device).split(sizes)
            yield from zip(parts, labels, strict=False)


class Loop(skorch.NeuralNet):
    """skorch's loop over `Batches`, for networks with one optimizer or several.

    A loop trains one phase. `held` carries what skorch's constructor does not know:
    the phase, the validation batches, the optimizers' options, amp.
    """

    def get_split_datasets(self, X, y=None, **parameters):
        """Return the batches as they are."""
        return X, self.held["valid"]

    def get_iterator(self, dataset, training=False):
        """Return the batches, which iterate by themselves."""
        return dataset

    def initialize_optimizer(self):
        """Make one optimizer for each of the network's groups of parameters."""
        groups = self.module_.groups(self.held["phase"])
        self.updaters = {
            name: self.optimizer(list(weights), lr=self.lr, **self.held["options"])
            for name, weights in groups.items()
        }
        self.weights = {
            name: [weight for part in updater.param_groups for weight in part["params"]]
            for name, updater in self.updaters.items()
        }
        self.named_weights = list(self.module_.named_parameters())
        self.optimizer_ = next(iter(self.updaters.values()))
        return self

    def train_step(self, batch, **parameters):
        """Let each of the network's updates take its step."""
        if not self.module_.training:  # the call costs as much as a layer
            self.module_.train()
        x, y = batch
        scaler = self.held["scaler"]
        updates = iter(self.module_.updates(self.held["phase"], x, y))
        losses, total = {}, 0.0
        while True:
            with self._autocast(x):
                group, loss = next(updates, (None, None))
            if group is None:
                break
            updater = self.updaters[group]
            for weight in self.weights[group]:
                weight.grad = None
            (loss if scaler is None else scaler.scale(loss)).backward()
            self.notify(
                "on_grad_computed",
                named_parameters=self.named_weights,
                batch=batch,
                training=True,
            )
            if scaler is None:
                updater.step()
            else:
                scaler.step(updater)
                scaler.update()
            losses[group] = loss.detach()
            total = total + losses[group]
        if not math.isfinite(total):
            raise ValueError(
                f"The loss became {float(total)} in epoch {len(self.history)} with "
                f"lr={self.lr}: lower lr, or scale the features if they are too large."
            )
        if len(self.updaters) > 1:  # else it is the training loss
            for group, loss in losses.items():
                self.history.record_batch(f"{group}_loss", loss.item())
        return {"loss": total, "y_pred": None}

    def validation_step(self, batch, **parameters):
        """Return the summed losses of a batch without a step."""
        self.module_.eval()
        x, y = batch
        with torch.no_grad(), self._autocast(x):
            updates = self.module_.updates(self.held["phase"], x, y)
            total = sum(loss for _, loss in updates)
        return {"loss": total, "y_pred": None}

    def _autocast(self, x):
        amp = self.held["amp"]
        return torch.autocast(x.device.type, _AMP[amp]) if amp else nullcontext()

    def notify(self, method_name, **parameters):
        """Tell skorch's callbacks; one that interrupts the fit ends this phase."""
        try:
            super().notify(method_name, **parameters)
        except KeyboardInterrupt:
            if method_name == "on_epoch_end":  # how skorch's EarlyStopping stops
                raise _Stop from None
            raise


class _EpochEnd(Callback):
    """Seeds, reports, watches the validation loss and saves, once an epoch."""

    def __init__(self, training, phase, first, steps):
        self.training, self.phase = training, phase
        self.first, self.steps = first, steps

    def on_epoch_begin(self, net, **parameters):
        if next(self.steps, None) is None:
            raise _Stop  # a callback of scikit-learn's said so
        epoch = self.training.n_epochs + 1
        seed_generators((self.training.seed + epoch) % 2**31, self.training.device)

    def on_epoch_end(self, net, **parameters):
        training, network = self.training, net.module_
        network.eval()
        with torch.no_grad():
            network.end_epoch(self.phase, training.in_order)
        training.record(self.phase, net.history[-1])
        stop = training.watch(network, net.history[-1].get("valid_loss"))
        if training.checkpoint is not None:
            training.save(network, net.updaters, stop)
        if stop:
            raise _Stop


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
    n_epochs : int or None
        Epochs of each phase instead of the detector's own.
    """

    def __init__(self, detector, x, y, seed, given, n_epochs=None):
        self.detector, self.device, self.seed = detector, detector.device_, seed
        self.given, self.only = given, n_epochs
        self.n_epochs, self.history = 0, []
        self.best = self.misses = None
        resident = x.nbytes <= _RESIDENT_BYTES
        x = x.to(self.device) if resident else x
        y = None if y is None else y.to(x.device)  # one index serves both
        make = partial(
            Batches, batch_size=detector.batch_size, device=torch.device(self.device)
        )
        self.valid = None
        if detector.patience is not None:
            n_valid = max(1, round(detector.validation_fraction * len(x)))
            if len(x) - n_valid < 2:
                raise ValueError(
                    f"validation_fraction={detector.validation_fraction} leaves "
                    f"{len(x) - n_valid} of {len(x)} samples to train on."
                )
            order = torch.randperm(len(x))
            held, kept = order[:n_valid].to(x.device), order[n_valid:].to(x.device)
            part = None if y is None else y[held]
            # what is computed when it is asked for is not asked for all at once
            select = getattr(x, "subset", x.__getitem__)
            self.valid = make(select(held), part, shuffle=False)
            x, y = select(kept), None if y is None else y[kept]
        self.train = make(x, y, shuffle=True)
        # passes that train nothing take as many samples at once as scores do
        rows = max(detector.batch_size, detector._block_rows(self.device))
        self.in_order = partial(make, x, y, batch_size=rows, shuffle=False)
        self.checkpoint = None

    def run(self, network, saved=None):
        """Train `network` through its phases, from a saved state where there is one."""
        detector, skip = self.detector, 0
        phases = network.phases
        if self.history and saved is None:
            phases = network.warm_phases or phases
        if saved is not None:
            network.load_state_dict(saved["network"])
            self.history, self.n_epochs = saved["history"], saved["n_epochs"]
            skip = phases.index(saved["phase"])
        for i, phase in enumerate(phases[skip:], start=skip):
            resumed = saved is not None and i == skip
            done = saved["phase_epochs"] if resumed else 0
            n_epochs = (self.only or detector._epochs(phase)) - done
            if resumed and saved["stopped"]:
                n_epochs = 0
            network.eval()
            if not resumed:
                with torch.no_grad():
                    network.begin(phase, self.in_order)
            self.best, self.misses = (None, 0) if not resumed else saved["best"]
            self._run_phase(network, phase, done, n_epochs, saved if resumed else None)
            if self.best is not None:
                network.load_state_dict(self.best[1])

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
                "reconstruction_attributes": partial(
                    detector._reconstruct, network, self
                ),
            },
        )
        optimizer = _OPTIMIZERS.get(detector.optimizer, detector.optimizer)
        loop = Loop(
            module=network,
            criterion=torch.nn.Identity,
            optimizer=optimizer,
            lr=detector.lr,
            max_epochs=n_epochs,
            train_split=None,
            callbacks=[
                *copy.deepcopy(list(detector.callbacks or ())),
                _EpochEnd(self, phase, done, steps),
            ],
            callbacks__print_log=None,
            verbose=0,
            device=self.device,
        )
        fp16 = detector.amp == "fp16"
        known = signature(optimizer).parameters  # SGD has no betas
        options = {k: v for k, v in detector._optimizer_options.items() if k in known}
        options["weight_decay"] = detector.weight_decay
        if isinstance(detector.optimizer, str) and "fused" in known:
            options["fused"] = True  # one call for all weights
        loop.held = {
            "phase": phase,
            "valid": self.valid,
            "options": options,
            "amp": detector.amp,
            "scaler": torch.amp.GradScaler(self.device) if fp16 else None,
        }
        loop.initialize()
        self.phase_epochs = done
        if saved is not None:
            for name, updater in loop.updaters.items():
                updater.load_state_dict(saved["updaters"][name])
        loop.notify("on_train_begin", X=None, y=None)
        with suppress(_Stop):
            loop.fit_loop(self.train, epochs=n_epochs)
        steps.close()
        loop.notify("on_train_end", X=None, y=None)

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
        if self.detector.patience is None:
            return False
        if self.best is None or loss < self.best[0]:
            state = {k: v.detach().clone() for k, v in network.state_dict().items()}
            self.best, self.misses = (float(loss), state), 0
            return False
        self.misses += 1
        return self.misses >= self.detector.patience

    def save(self, network, updaters, stopped):
        """Write the state of the training, whole or not at all."""
        state = {
            "fingerprint": self.fingerprint,
            "seed": self.seed,
            "phase": self.history[-1]["phase"],
            "phase_epochs": self.phase_epochs,
            "n_epochs": self.n_epochs,
            "stopped": stopped,
            "history": self.history,
            "network": network.state_dict(),
            "updaters": {name: each.state_dict() for name, each in updaters.items()},
            "best": (self.best, self.misses),
        }
        partial_file = self.checkpoint.with_suffix(".partial")
        torch.save(state, partial_file)
        os.replace(partial_file, self.checkpoint)


@with_parameters
class TorchDetector(BaseDetector):
    """Base of detectors that train a network.

    A method writes `_network(shape)` and its constructor's parameters as annotated
    defaults; everything about training is here, and the parameters are documented in
    each class.
    """

    max_epochs: int = 50
    batch_size: int = 128
    lr: float = 1e-3
    optimizer: object = "adam"
    weight_decay: float = 0.0
    patience: object = None
    validation_fraction: float = 0.1
    architecture: object = "auto"
    hidden_sizes: object = None
    image_shape: object = None
    amp: object = None
    compile: bool = False
    device: str = "auto"
    callbacks: object = None
    warm_start: bool = False
    on_interrupt: str = "raise"
    checkpoint: object = None
    contamination: float = 0.1
    random_state: object = None

    _uses_labels = False
    _optimizer_options = {}
    _parameter_constraints = {
        "max_epochs": [Interval(Integral, 1, None, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "lr": [Interval(Real, 0, None, closed="neither")],
        "optimizer": [StrOptions(set(_OPTIMIZERS)), callable],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "patience": [Interval(Integral, 1, None, closed="left"), None],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "architecture": [StrOptions({"auto", "mlp", "conv"}), callable],
        "hidden_sizes": [tuple, list, None],
        "image_shape": [tuple, list, None],
        "amp": [StrOptions(set(_AMP)), None],
        "compile": ["boolean"],
        "device": [str],
        "callbacks": [tuple, list, None],
        "warm_start": ["boolean"],
        "on_interrupt": [StrOptions({"raise", "keep"})],
        "checkpoint": [str, os.PathLike, None],
        "contamination": CONTAMINATION,
        "random_state": ["random_state"],
    }

    def _network(self, shape):
        """Return the network for samples of `shape`, (d,) or (c, h, w)."""
        raise NotImplementedError

    def _epochs(self, phase):
        """Return how many epochs a phase has."""
        return self.max_epochs

    # ---------------------------------------------------------------------- samples

    def _validate(self, X, *, reset):
        return check_images(self, X, reset=reset)

    def _sample_shape(self):
        if self.image_shape_ is None:
            return (self.n_features_in_,)
        h, w, c = self.image_shape_
        return (c, h, w)

    def _samples(self, X):
        """Return rows (n, d) as the tensor that the network takes."""
        x = X
        if not is_torch(X):
            X = np.ascontiguousarray(X)
            # nothing writes to samples; torch warns of arrays that nobody may write to
            x = torch.from_numpy(X) if X.flags.writeable else torch.tensor(X)
        if self.image_shape_ is None:
            return x
        h, w, c = self.image_shape_
        return x.reshape(len(x), h, w, c).permute(0, 3, 1, 2)

    def _check_parameters(self, X):
        largest = max(float(X.max()), -float(X.min()))
        if largest > _LARGEST:
            raise ValueError(
                f"X has values up to {largest:.1e}, too large for a network in float32 "
                f"(at most {_LARGEST:.0e}): scale the features first."
            )

    # --------------------------------------------------------------------- training

    def _fit_work(self, X):
        return 1e3 * X.shape[0] * X.shape[1] * self.max_epochs

    def _fit(self, X, y):
        self._train(X, y)
        self.n_samples_seen_ = X.shape[0]
        vars(self).pop("_sample_", None)  # of rows before a warm start

    def _add(self, X, y):
        """Train one epoch on more rows, for `partial_fit`."""
        self._train(X, y, n_epochs=1)
        self.n_samples_seen_ = getattr(self, "n_samples_seen_", 0) + X.shape[0]

    def _train(self, X, y, n_epochs=None):
        labels = self._training_labels(X, y)
        seed = int(generator(self.random_state).randint(2**31 - 1))
        with reproducible(self.device_):
            self._run(X, y, labels, seed, n_epochs)

    def _training_labels(self, X, y):
        """Return the labels (n,) that the network's losses get, or None."""
        if not self._uses_labels or y is None:
            return None
        return torch.as_tensor(check_labels(y, X.shape[0]))

    def _normal_rows(self, X, y):
        """Return the training rows that set the threshold."""
        return X

    def _run(self, X, y, labels, seed, n_epochs):
        saved = None
        if self.checkpoint is not None:
            file, saved, fingerprint = self._open_checkpoint(X, labels)
            seed = saved["seed"] if saved else seed
        seed_generators(seed, self.device_)
        x = self._samples(X).float()
        known = getattr(self, "net_", None)
        network = copy.deepcopy(known) if known else self._network(self._sample_shape())
        network.requires_grad_(True).to(self.device_)
        if self.compile:
            for part in network.children():
                part.compile()
        training = Training(self, x, labels, seed, (X, y), n_epochs)
        training.history = list(getattr(self, "history_", ()))
        training.n_epochs = len(training.history)
        if self.checkpoint is not None:
            training.checkpoint, training.fingerprint = file, fingerprint
        try:
            training.run(network, saved)
        except KeyboardInterrupt:
            if self.on_interrupt == "raise":
                raise
            warnings.warn(
                f"The fit was interrupted in epoch {training.n_epochs + 1}; what was "
                "learned so far is kept.",
                stacklevel=5,
            )
        self.net_ = self._finish(network, training)
        self.history_ = training.history

    def _finish(self, network, training):
        network.eval()
        with torch.no_grad():
            seed_generators(training.seed, training.device)
            network.finish(training.in_order)
        return network.requires_grad_(False)

    def _open_checkpoint(self, X, labels):
        """Return the file, what is in it, and what identifies this fit."""
        aside = {"checkpoint", "callbacks", "device", "on_interrupt", "compile"}
        parameters = {
            name: _as_data(value)
            for name, value in self.get_params().items()
            if name not in aside
        }
        data = to_numpy(X) if is_torch(X) else X  # pictures in files stay there
        labels = None if labels is None else to_numpy(labels)
        fingerprint = joblib.hash((type(self).__name__, parameters, data, labels))
        folder = pathlib.Path(self.checkpoint)
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / f"{type(self).__name__}.pt"
        if not file.exists():
            return file, None, fingerprint
        saved = torch.load(file, map_location=self.device_, weights_only=True)
        if saved["fingerprint"] != fingerprint:
            raise ValueError(
                f"checkpoint={str(self.checkpoint)!r} holds the training of a "
                f"{type(self).__name__} with other parameters or other data. Pass "
                "another folder, or remove the file to start anew."
            )
        return file, saved, fingerprint

    def _reconstruct(self, network, training):
        """Return the fitted attributes as if the fit ended here, for callbacks."""
        probe = copy.copy(self)
        vars(probe).pop("_callback_fit_ctx", None)  # it reports nothing
        probe.net_ = probe._finish(copy.deepcopy(network), training)
        return {"net_": probe.net_, "offset_": probe._offset_on(*training.given)}

    def _offset_on(self, X, y):
        """Return the threshold of the training data as `_train` got them."""
        return BaseDetector._fit_offset(self, self._normal_rows(X, y), None)

    # ---------------------------------------------------------------------- scoring

    def _row_elements(self):
        # at least batch_size rows together, more where samples are small
        elements = max(_ACTIVATIONS, 16 * math.prod(self._sample_shape()))
        return max(1, min(elements, _SCORED_ELEMENTS // self.batch_size))

    def _in_blocks(self, function, X, **options):
        """Score with a network in the dtype of `X`."""
        network = self.net_
        dtype = X.dtype if is_torch(X) else getattr(torch, str(X.dtype))
        device = torch.device(self._scoring_device(X))
        weight = next(network.parameters(), torch.zeros((), dtype=dtype))
        if (weight.dtype, weight.device.type) != (dtype, device.type):
            network = _converted(network, device, dtype)
        return super()._in_blocks(partial(function, network), X, **options)

    def _anomaly(self, network, X):
        with torch.no_grad():
            return network.anomaly(self._samples(X))

    def _map(self, network, X):
        with torch.no_grad():
            return network.map(self._samples(X))
