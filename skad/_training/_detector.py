"""The base of detectors that train a network: parameters, samples, scores."""

import copy
import math
import os
import pathlib
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from numbers import Integral, Real
from os import PathLike

import joblib
import numpy as np
import torch

from skad._array import is_torch, to_numpy
from skad._copies import converted
from skad._parameters import with_parameters
from skad._random import Seed, generator
from skad._sklearn import Interval, StrOptions
from skad._training._loop import AMP
from skad._training._run import OPTIMIZERS, Training
from skad._training._seeds import reproducible, seed_generators
from skad._validation import check_images, check_labels
from skad.base import BaseDetector

# Elements of samples that are scored together where batch_size asks for fewer.
_SCORED_ELEMENTS = 2**19
# Numbers that a network computes of a sample at least; larger blocks leave the cache.
_ACTIVATIONS = 768
# Features beyond this overflow float32 within a few layers.
_LARGEST = 1e9


def _as_data(value):
    """Return what identifies a parameter: of a module its structure and its weights."""
    if isinstance(value, torch.nn.Module):
        arrays = [(name, to_numpy(one)) for name, one in value.state_dict().items()]
        return repr(value), arrays
    return value


@with_parameters
class TorchDetector(BaseDetector):
    """Base of detectors that train a network.

    A method writes `_network(shape)` and its constructor's parameters as annotated
    defaults; everything about training is here.

    Parameters
    ----------
    max_epochs : int, default=50
        Passes over the training data.
    batch_size : int, default=128
        Samples of a training step; also bounds the memory of scoring.
    lr : float, default=0.001
        Learning rate.
    optimizer : {"adam", "adamw", "sgd", "rmsprop"} or callable, default="adam"
        The optimizer, or a class with torch's signature.
    weight_decay : float, default=0.0
        Weight decay of the optimizer.
    patience : int or None, default=None
        Epochs without a better loss on held-out samples after which training stops and
        the best weights are taken. None holds nothing out.
    validation_fraction : float, default=0.1
        Share of the samples that `patience` holds out.
    architecture : {"auto", "mlp", "conv"} or class, default="auto"
        "auto" takes linear layers for rows and convolutions for images. A class of
        modules is called with the shapes (without the axis of samples) that it has to
        lead from and to, once for each network of the method.
    hidden_sizes : tuple of int or None, default=None
        Units or channels of the layers between, from the sample's side; None is
        (64, 32) for linear layers and (32, 64, 128) for convolutions.
    image_shape : tuple of int or None, default=None
        (height, width) or (height, width, channels) of images that come as rows.
    amp : {"bf16", "fp16"} or None, default=None
        Lower precision of the training, for devices that have it.
    compile : bool, default=False
        Whether torch compiles the networks.
    device : str, default="auto"
        "cpu", a device of torch such as "cuda", or "auto": a tensor's own device, and
        for arrays the GPU when the work is worth the trip.
    callbacks : list of skorch callbacks or None, default=None
        Are copied into every training; see also `set_callbacks` for scikit-learn's.
    warm_start : bool, default=False
        Whether another `fit` goes on from the weights of the last one.
    on_interrupt : {"raise", "keep"}, default="raise"
        After an interrupt (Ctrl-C), "keep" keeps what was learned so far; "raise"
        leaves the detector as it was.
    checkpoint : str, path or None, default=None
        Folder where every epoch is saved; a `fit` that was killed goes on from there.
    random_state : int, RandomState instance or None, default=None
        Draws weights, batches and noise. Pass an int for reproducible results.

    Attributes
    ----------
    net_ : torch.nn.Module
        The trained network.
    history_ : list of dict
        Epoch, phase, seconds, "train_loss" and, with `patience`, "valid_loss".
    device_ : str
        The device of the fit.
    image_shape_ : tuple of int or None
        (height, width, channels) of images.
    n_features_in_ : int
        Number of features, or of the elements of an image.
    """

    max_epochs: int = 50
    batch_size: int = 128
    lr: float = 1e-3
    optimizer: str | Callable = "adam"
    weight_decay: float = 0.0
    patience: int | None = None
    validation_fraction: float = 0.1
    architecture: str | Callable = "auto"
    hidden_sizes: Sequence[int] | None = None
    image_shape: Sequence[int] | None = None
    amp: str | None = None
    compile: bool = False
    device: str = "auto"
    callbacks: Sequence | None = None
    warm_start: bool = False
    on_interrupt: str = "raise"
    checkpoint: str | PathLike | None = None
    random_state: Seed = None

    _uses_labels = False
    _optimizer_options = {}
    _parameter_constraints = {
        "max_epochs": [Interval(Integral, 1, None, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "lr": [Interval(Real, 0, None, closed="neither")],
        "optimizer": [StrOptions(set(OPTIMIZERS)), callable],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "patience": [Interval(Integral, 1, None, closed="left"), None],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "architecture": [StrOptions({"auto", "mlp", "conv"}), callable],
        "hidden_sizes": [tuple, list, None],
        "image_shape": [tuple, list, None],
        "amp": [StrOptions(set(AMP)), None],
        "compile": ["boolean"],
        "device": [str],
        "callbacks": [tuple, list, None],
        "warm_start": ["boolean"],
        "on_interrupt": [StrOptions({"raise", "keep"})],
        "checkpoint": [str, os.PathLike, None],
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
        return BaseDetector._fit_offset(self, self._normal_rows(X, y), y, None)

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
            network = converted(network, dtype, device)
        return super()._in_blocks(partial(function, network), X, **options)

    def _anomaly(self, network, X):
        with torch.no_grad():
            return network.anomaly(self._samples(X))

    def _map(self, network, X):
        with torch.no_grad():
            return network.map(self._samples(X))
