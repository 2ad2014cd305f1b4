"""The base of detectors that train a network: samples, training, scores."""

import copy
import math
import warnings
from functools import partial
from typing import ClassVar

import torch

from skad._array import is_torch, to_numpy
from skad._copies import converted, copied
from skad._labels import check_labels, need_normal
from skad._parameters import with_parameters
from skad._random import generator
from skad._training._advice import warn_of_rebuilding, warn_of_scale
from skad._training._arguments import EPOCHS, check_sizes, epochs_of, from_parameters
from skad._training._checkpoints import Checkpoint
from skad._training._held_out import HeldOutMixin, Trained, of_samples
from skad._training._made import go_on_from, made_with
from skad._training._parameters import TrainingParameters
from skad._training._run import Training
from skad._training._seeds import reproducible, seed_generators
from skad.base import BaseDetector

# Elements of samples that are scored together where batch_size asks for fewer.
_SCORED_ELEMENTS = 2**19
# Numbers that a network computes of a sample at least; larger blocks leave the cache.
_ACTIVATIONS = 768
# Features beyond this overflow float32 within a few layers.
_LARGEST = 1e9


@with_parameters
class TorchDetector(HeldOutMixin, TrainingParameters, BaseDetector):
    """Base of detectors that train a network.

    A method names its network in `_network_class`, or writes `_network(shape)`, and a
    family writes `_validate`, `_sample_shape` and `_samples`. Everything about training
    is here.

    With ``contamination="auto"`` the threshold comes from normal samples that are held
    out of the training; a fit to the same samples holds the same ones out again. Fewer
    than 12 normal samples are all trained on: then copies that are fitted without some
    of them score these, or after `partial_fit`, while fewer than 5 were held out, the
    samples of the training themselves do, and more new ones are flagged.
    """

    # The network: its constructor takes the shape of samples and, by their names,
    # parameters of the detector.
    _network_class: ClassVar[type]
    _uses_labels = False
    _optimizer_options = {}
    # Parameters with epochs of phases, which a checkpoint may go beyond.
    _epoch_parameters = ("max_epochs",)
    # Others that a fit takes less time with when they are lower.
    _costly = ()

    def _network(self, shape):
        """Return the network for samples of `shape`, as `_sample_shape` says."""
        return from_parameters(self, self._network_class, shape)

    def _epochs(self, phase):
        """Return how many epochs a phase has, or "auto"."""
        return self.max_epochs

    def _most_epochs(self):
        """Return how many epochs "auto" is where samples are few."""
        return EPOCHS

    def _own_callbacks(self, phase, n_epochs):
        """Return skorch callbacks of the method's own, new for a phase of some epochs.

        A schedule or the clipping of gradients, say. Those of a class that is among the
        user's `callbacks` are replaced by these.
        """
        return ()

    def _optimizer_of(self, phase, group):
        """Return what a group of weights has for itself: "optimizer", "lr", ..."""
        return {}

    def _averages(self, phase):
        """Return None, or the arguments of `Averages`, such as ``{"decay": 0.999}``."""
        return None

    def _privacy(self):
        """Return None, or the `Privacy` that gradients keep of samples.

        For networks with a `loss` alone, whose norms do not look at other samples.
        """
        return None

    def _anomaly_share(self):
        """Return the share of known anomalies of each batch, None for as they come."""
        return None

    # ---------------------------------------------------------------------- samples

    def _sample_shape(self):
        """Return the shape of one sample, as `_network` takes it."""
        raise NotImplementedError

    def _samples(self, X):
        """Return the samples of rows `X`, a tensor or what looks like one."""
        raise NotImplementedError

    def _check_parameters(self, X):
        check_sizes(self)
        largest = max(float(X.max()), -float(X.min()))
        if largest > _LARGEST:
            raise ValueError(
                f"X has values up to {largest:.1e}, too large for a network in float32 "
                f"(at most {_LARGEST:.0e}): scale the features first."
            )

    # --------------------------------------------------------------------- training

    def _wants_unit_scale(self):
        """Tell whether features are to be on unit scale, for the network to learn."""
        return True

    def _fit_work(self, X):
        return 1e3 * X.shape[0] * X.shape[1] * self._whole_epochs(X)

    def _whole_epochs(self, X):
        return epochs_of(self.max_epochs, X.shape[0], self._most_epochs())

    def _fit(self, X, y):
        for name in ("_sample_", "_held_sample_"):  # of rows before a warm start
            vars(self).pop(name, None)
        self._train(X, y)

    def _add(self, X, y):
        """Train one epoch on more rows, for `partial_fit`."""
        self.n_samples_seen_ = getattr(self, "n_samples_seen_", 0)
        self._train(X, y, n_epochs=1)
        self.n_samples_seen_ += X.shape[0]

    def _train(self, X, y, n_epochs=None):
        if n_epochs is None:
            warn_of_scale(self, X)
        labels = self._training_labels(X, y)
        if labels is not None and (n_epochs is None or not hasattr(self, "net_")):
            need_normal(self, of_samples(labels))
        seed = int(generator(self.random_state).randint(2**31 - 1))
        with reproducible(self.device_):
            self._run(X, y, labels, seed, n_epochs)
        if n_epochs is None:
            self.n_samples_seen_ = X.shape[0]

    def _training_labels(self, X, y):
        """Return the labels that the network's losses get, or None.

        They are (n,), or (n, k) where each has more behind it, such as a mask.
        """
        if not self._uses_labels or y is None:
            return None
        return torch.as_tensor(check_labels(y, X.shape[0]))

    def _normal_rows(self, X, y):
        """Return the training rows that set the threshold."""
        return X

    def _run(self, X, y, labels, seed, n_epochs):
        saved = checkpoint = None
        if self.checkpoint is not None:
            checkpoint = self._open_checkpoint(X, labels)
            saved = checkpoint.read(self.device_)
            seed = saved["seed"] if saved else seed
        seed_generators(seed, self.device_)
        x = self._samples(X).float()
        network = self._network(self._sample_shape())
        if hasattr(self, "net_"):
            go_on_from(self, network)
        network.requires_grad_(True).to(self.device_)
        whole = n_epochs is None
        before = None if whole else self.n_samples_seen_
        held, kept = self._split(len(x), labels, before)
        used = self._holds_out() and held is not None
        samples = x if self._keeps_samples else None
        learned = kept
        if used and labels is not None:
            learned = kept[to_numpy(of_samples(labels))[kept] >= 0]
        self._trained_ = Trained(
            X, samples, held if used else None, learned, in_stream=not whole
        )
        n_held = getattr(self, "n_held_out_", 0) if before else 0
        self.n_held_out_ = n_held + (0 if held is None else len(held))
        if kept is not None and not len(kept):  # all of a piece of a stream
            return
        if self.compile:
            for part in network.children():
                part.compile()
        training = Training(self, x, labels, seed, (X, y), (held, kept), n_epochs)
        training.history = list(getattr(self, "history_", ()))
        training.n_epochs = len(training.history)
        training.checkpoint = checkpoint
        try:
            training.run(network, saved)
        except KeyboardInterrupt:
            if self.on_interrupt == "raise":
                raise
            left_out = training.settle(network)
            parts = " and ".join(map(repr, left_out))
            warnings.warn(
                f"The fit was interrupted in epoch {training.n_epochs + 1}; what was "
                "learned so far is kept"
                + (f", without the phase {parts} of the training." if parts else "."),
                stacklevel=5,
            )
            whole = False  # what it is worth yet, the user knows
        self.net_ = self._finish(network, training)
        if whole:
            warn_of_rebuilding(self, self.net_, training)
        self.history_ = training.history
        self._made_with_ = made_with(self)

    def _finish(self, network, training):
        network.eval()
        with torch.no_grad():
            seed_generators(training.seed, training.device)
            network.finish(training.in_order, training.held)
        return network.requires_grad_(False)

    def _open_checkpoint(self, X, labels):
        """Return the checkpoint of the fit to these data."""
        return Checkpoint(self, X, labels)

    def _reconstruct(self, network, training):
        """Return the fitted attributes as if the fit ended here, for callbacks."""
        probe = copy.copy(self)
        vars(probe).pop("_callback_fit_ctx", None)  # it reports nothing
        probe.net_ = probe._finish(copied(network), training)
        return {"net_": probe.net_, "offset_": probe._offset_on(*training.given)}

    def _offset_on(self, X, y):
        """Return the threshold of the training data as `_train` got them."""
        rows = self._normal_rows(X, y)
        if self.contamination == "auto" and self._trained_.held is None:
            # no copies are fitted for every epoch
            anomaly = to_numpy(self._seen_anomaly(rows, None))
            return -self._limit(anomaly)
        return BaseDetector._fit_offset(self, rows, y, None)

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

    def _sample_anomaly(self, network, x):
        """Return the anomaly (b,) of samples as the network takes them."""
        return network.anomaly(x)

    def _anomaly(self, network, X):
        with torch.no_grad():
            return self._sample_anomaly(network, self._samples(X))

    def _map(self, network, X):
        with torch.no_grad():
            return network.map(self._samples(X))

    def _inspect(self, network, X):
        with torch.no_grad():
            return network.inspect(self._samples(X))
