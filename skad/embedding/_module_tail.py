"""The last step of a classifier that is a torch module.

A tail has the attributes of a `ClassifierView` that speak of outputs, and computes what
the view asks it for, outputs and gradients, from a copy of the module with hooks.
"""

import copy
import threading
from collections.abc import Mapping
from contextlib import contextmanager
from itertools import chain

import numpy as np

from skad._array import is_torch, like
from skad.embedding._logits import log_softmax, one_per_class, softmax


class ModuleTail:
    """A torch module: a copy in evaluation mode, whose hooks go as they came."""

    has_gradients, passes_through = True, False

    def __init__(self, module, X, image_shape, name, trained_on=None):
        import torch

        from skad._copies import copied

        self.shape, self.name = image_shape, name
        self.module = copied(module).eval().requires_grad_(False)
        self._move(X)
        with torch.no_grad():
            seen, last = self._probe(X)
        rows, out = seen.pop("rows"), seen.pop("out")
        if out.ndim != 2 and not (out.ndim == 1 and len(out) == rows):
            raise ValueError(
                f"{name} returns shape {tuple(out.shape)} for {rows} rows; a "
                "classifier returns one value per class, (n_samples, n_classes)."
            )
        out = one_per_class(out)
        self.n_outputs = out.shape[1]
        self.last, self.head, self.from_last = None, None, False
        kind = _kind(out, trained_on)
        if last is not None:
            self.last, values = last[0], one_per_class(last[1])
            layer = self.module.get_submodule(self.last)
            relations = {
                "logits": lambda z: z,
                "probabilities": softmax,
                "log_probabilities": log_softmax,
            }
            if values.shape == out.shape:
                for relation, function in relations.items():
                    if torch.allclose(function(values), out, rtol=1e-4, atol=1e-6):
                        # what softmax makes probabilities of are the logits
                        if relation != "logits":
                            kind, self.from_last = "logits", True
                        self.head = _head(layer)
                        break
        if kind == "neither":
            raise ValueError(
                f"{name} was trained with NLLLoss and returns rows that sum to "
                f"{float(out[0].sum()):.3g}: neither probabilities nor logits. End the "
                "module with a softmax, or train it with CrossEntropyLoss."
            )
        self.kind = kind
        self.has_logits = self.has_decision = kind == "logits"
        self.has_probabilities = True
        if kind != "logits":
            self.head = None
        tops = ["penultimate"] if self.last is not None else []
        tops += ["decision"] if self.has_logits else []
        self.layers = (*seen, *(top for top in tops if top not in seen))
        self.inner = tuple(seen)
        self.row_elements = 2 * sum(seen.values()) // max(rows, 1)

    @property
    def device(self):
        weight = self._weight()
        return "cpu" if weight is None else weight.device

    def _weight(self):
        # one by one: a list of all takes time for every block
        tensors = chain(self.module.parameters(), self.module.buffers())
        return next((t for t in tensors if t.is_floating_point()), None)

    def _move(self, X):
        import torch

        dtype = X.dtype if is_torch(X) else getattr(torch, str(X.dtype))
        device = X.device if is_torch(X) else self.device
        self.module.to(dtype=dtype, device=device)
        self.dtype = dtype

    def matching(self, X):
        import torch

        from skad._copies import converted

        dtype = X.dtype if is_torch(X) else getattr(torch, str(X.dtype))
        device = X.device if is_torch(X) else torch.device(self.device)
        if dtype == self.dtype and device == torch.device(self.device):
            return self
        tail = copy.copy(self)
        tail.module = converted(self.module, dtype, device)
        tail.dtype = dtype
        if tail.head is not None:
            tail.head = tuple(part.to(dtype=dtype, device=device) for part in tail.head)
        return tail

    def _samples(self, X):
        import torch

        x = X if is_torch(X) else torch.tensor(np.ascontiguousarray(X))
        x = x.to(device=self.device, dtype=self.dtype)
        if self.shape is None:
            return x
        h, w, c = self.shape
        return x.reshape(len(x), h, w, c).permute(0, 3, 1, 2)

    def _call(self, x):
        try:
            out = self.module(x)
        except RuntimeError as error:
            if "out of memory" in str(error):
                raise
            raise ValueError(
                f"{self.name} fails on samples of shape {tuple(x.shape[1:])}: "
                f"{str(error).splitlines()[0]} (image_shape={self.shape})"
            ) from error
        return _said(out, self.name)

    def _probe(self, X):
        """Return {layer: elements of its output}, and the last linear layer."""
        import torch

        seen, linear = {}, []

        def note(name, module):
            def hook(_, __, out):
                if isinstance(out, torch.Tensor):
                    seen[name] = out.numel()
                    if isinstance(module, torch.nn.Linear) and out.ndim == 2:
                        linear.append((name, out))

            return hook

        with _hooked() as handles:
            for name, module in self.module.named_modules():
                if name:
                    handles.append(module.register_forward_hook(note(name, module)))
            x = self._samples(X[:2])
            seen["out"], seen["rows"] = self._call(x), len(x)
        if not linear and isinstance(self.module, torch.nn.Linear):
            linear.append(("", seen["out"]))
        return seen, linear[-1] if linear else None

    def compute(self, X, key, layers):
        import torch

        grad = is_torch(X) and X.requires_grad
        with torch.set_grad_enabled(grad):
            found = self._forward(self._samples(X), {key, *layers})
        if not is_torch(X) or X.device == torch.device(self.device):
            return found
        return {name: values.to(X.device) for name, values in found.items()}

    def shaped(self, X, layer, function):
        """Return the logits (b, c) where a layer's activations are changed on the way.

        `function` gets and returns them as rows (b, f), maps and tokens unrolled.
        """
        import torch

        thread = threading.get_ident()

        def shape(module, inputs, out):
            if threading.get_ident() != thread:
                return None
            if not isinstance(out, torch.Tensor):
                raise ValueError(
                    f"layer={layer!r} of {self.name} returns {type(out).__name__}, "
                    "whose activations cannot be shaped: take one that returns a "
                    "tensor."
                )
            return function(out.reshape(len(out), -1)).reshape(out.shape)

        grad = is_torch(X) and X.requires_grad
        with _hooked() as handles, torch.set_grad_enabled(grad):
            module = self.module.get_submodule(layer)
            handles.append(module.register_forward_hook(shape))
            found = self._forward(self._samples(X), set())["decision"]
        return found.to(X.device) if is_torch(X) else found

    def _forward(self, x, layers):
        found, thread = {}, threading.get_ident()

        def keep(name, value):
            # other threads may be in the same module
            if threading.get_ident() == thread and hasattr(value, "ndim"):
                found[name] = value

        with _hooked() as handles:
            for name in layers - {"input", "decision", "probabilities", "penultimate"}:
                if name not in self.layers:
                    continue
                handles.append(
                    self.module.get_submodule(name).register_forward_hook(
                        lambda _, __, out, name=name: keep(name, out)
                    )
                )
            if self.last is not None:
                handles.append(
                    self.module.get_submodule(self.last).register_forward_hook(
                        lambda _, inputs, out: (
                            (
                                keep("penultimate", inputs[0]),
                                keep("last", out),
                            )[:0]
                            or None
                        )
                    )
                )
            out = one_per_class(self._call(x))
        last = found.pop("last", None)
        found = {name: pooled(values) for name, values in found.items()}
        if self.has_logits:
            found["decision"] = one_per_class(last) if self.from_last else out
        else:
            exponentiate = self.kind == "log_probabilities"
            found["probabilities"] = out.exp() if exponentiate else out
        return found

    def pull_back(self, X, layer, cotangent):
        import torch

        with torch.enable_grad():
            x = like(X, X) if is_torch(X) else torch.tensor(np.ascontiguousarray(X))
            x = x.detach().to(device=self.device, dtype=self.dtype).requires_grad_(True)
            values = self._forward(self._samples(x), {layer})[layer]
            (gradient,) = torch.autograd.grad(
                values, x, cotangent(values.detach()).to(values)
            )
        return gradient

    def __getstate__(self):
        state = dict(vars(self))
        if str(self.device) != "cpu":
            state["module"] = copy.deepcopy(self.module).cpu()
        if self.head is not None:
            state["head"] = tuple(part.cpu() for part in self.head)
        return state


def _said(out, name):
    """Return the tensor of what a module returns: its logits, or the first of many."""
    found = out["logits"] if isinstance(out, Mapping) and "logits" in out else out
    found = getattr(found, "logits", found)
    found = found[0] if isinstance(found, tuple | list) and found else found
    if not is_torch(found):
        parts = f" with {list(out)}" if isinstance(out, Mapping) else ""
        raise ValueError(
            f"{name} returns {type(out).__name__}{parts}; a classifier returns a "
            "tensor with one value per class, a tuple whose first element is that, or "
            "what has it as `logits`."
        )
    return found


def pooled(values):
    """Return vectors (b, f): maps and tokens are averaged over place."""
    if values.ndim == 4:
        return values.mean(dim=(2, 3))
    return values.mean(dim=1) if values.ndim == 3 else values.reshape(len(values), -1)


def _kind(out, trained_on):
    """Return what the rows that a module returns are."""
    sums, negative = out.double().sum(1), bool((out < 0).any())
    if not negative and bool((sums - 1).abs().max() < 1e-3):
        return "probabilities"
    if not bool((out > 0).any()) and bool((out.exp().sum(1) - 1).abs().max() < 1e-3):
        return "log_probabilities"
    return "neither" if trained_on == "NLLLoss" else "logits"


def _head(layer):
    weight, bias = layer.weight.detach(), layer.bias
    bias = weight.new_zeros(len(weight)) if bias is None else bias.detach()
    if len(weight) == 1:
        weight = weight.new_tensor([[-0.5], [0.5]]) @ weight
        bias = bias * bias.new_tensor([-0.5, 0.5])
    return weight, bias


@contextmanager
def _hooked():
    """Remove the hooks that were added to the list, whatever happens."""
    handles = []
    try:
        yield handles
    finally:
        for handle in handles:
            handle.remove()
