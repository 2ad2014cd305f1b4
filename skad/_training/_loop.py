"""skorch's loop over one phase of a training: the steps of the optimizers.

No other file of the package computes gradients of weights, but `_private`, of samples
by themselves.
"""

import math
from contextlib import nullcontext

import skorch
import torch

from skad._training._private import set_private_gradients

AMP = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Stop(Exception):  # noqa: N818 (no error)
    """Ends a phase of the training early, as patience or a callback asked for."""


class Loop(skorch.NeuralNet):
    """skorch's loop over `Batches`, for networks with one optimizer or several.

    A loop trains one phase. `held` carries what skorch's constructor does not know:
    the phase, the validation batches, what makes an optimizer, averages, amp.
    """

    n_steps = 0

    def get_split_datasets(self, X, y=None, **parameters):
        """Return the batches as they are."""
        return X, self.held["valid"]

    def get_iterator(self, dataset, training=False):
        """Return the batches, which iterate by themselves."""
        return dataset

    def initialize_optimizer(self):
        """Make one optimizer for each of the network's groups of parameters."""
        groups = self.module_.groups(self.held["phase"])
        frozen = {
            id(weight)
            for name, weight in self.module_.named_parameters()
            if self.module_.is_frozen(name)
        }
        self.updaters = {
            name: self.held["optimizer"](name, _without(list(weights), frozen))
            for name, weights in groups.items()
        }
        self.weights = {
            name: [weight for part in updater.param_groups for weight in part["params"]]
            for name, updater in self.updaters.items()
        }
        self.named_weights = [
            (name, weight)
            for name, weight in self.module_.named_parameters()
            if not self.module_.is_frozen(name)
        ]
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
            privacy = self.held["privacy"]
            if privacy is not None:
                named = dict(self.named_weights)
                set_private_gradients(self.module_, named, x, y, privacy)
            else:
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
        self.n_steps += 1
        if self.held["averages"] is not None:
            self.held["averages"].step()
        if len(self.updaters) > 1:  # else it is the training loss
            for group, loss in losses.items():
                self.history.record_batch(f"{group}_loss", loss.item())
        return {"loss": total, "y_pred": None}

    def run_single_epoch(self, iterator, training, prefix, step_fn, **parameters):
        """Run an epoch, of averaged weights where these are to be watched."""
        averages = None if training else self.held["averages"]
        with nullcontext() if averages is None else averages.applied():
            super().run_single_epoch(iterator, training, prefix, step_fn, **parameters)

    def validation_step(self, batch, **parameters):
        """Return what patience watches of a batch, without a step."""
        self.module_.eval()
        x, y = batch
        with torch.no_grad(), self._autocast(x):
            total = self.module_.watched(self.held["phase"], x, y)
        return {"loss": total, "y_pred": None}

    def _autocast(self, x):
        amp = self.held["amp"]
        return torch.autocast(x.device.type, AMP[amp]) if amp else nullcontext()

    def notify(self, method_name, **parameters):
        """Tell skorch's callbacks; one that interrupts the fit ends this phase."""
        try:
            super().notify(method_name, **parameters)
        except KeyboardInterrupt:
            end = self.held["end"]
            if method_name != "on_epoch_end" or end.n_begun == len(self.history):
                raise
            # how skorch's EarlyStopping stops: with an epoch that counts as any other
            end.on_epoch_end(self, asked_to_stop=True)


def _without(weights, frozen):
    """Return parameters, or groups of them, without those whose ids are given."""
    if weights and isinstance(weights[0], dict):
        return [
            {**group, "params": _without(list(group["params"]), frozen)}
            for group in weights
        ]
    return [weight for weight in weights if id(weight) not in frozen]
