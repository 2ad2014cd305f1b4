"""The last step of a classifier: how its outputs and gradients are computed.

A tail has the attributes of a `ClassifierView` that speak of outputs, and computes what
the view asks it for: a chain of linear layers with known weights, a torch module, or
any scikit-learn classifier by its methods.
"""

import copy
import threading
from contextlib import contextmanager

import numpy as np

from skad._array import is_torch, like, namespace, to_numpy

# Logits and probabilities belong together when they agree up to this.
_TOLERANCE = 1e-4


def log_softmax(logits, temperature=1.0):
    """Return the logarithm of softmax(z / T) of each row (b, c)."""
    xp = namespace(logits)
    scaled = logits / temperature
    scaled = scaled - xp.max(scaled, axis=1, keepdims=True)
    return scaled - xp.log(xp.sum(xp.exp(scaled), axis=1, keepdims=True))


def softmax(logits, temperature=1.0):
    """Return softmax(z / T) of each row (b, c)."""
    return namespace(logits).exp(log_softmax(logits, temperature))


def one_per_class(values, n_classes=2):
    """Return one column per class: a binary margin `z` is the logits -z/2 and z/2.

    Only differences of logits are learned; halving the margin is what the penalty of a
    two-column logistic regression leads to, and treats both classes alike.
    """
    if values.ndim == 2 and values.shape[1] != 1:
        return values
    margin = values.reshape(-1, 1)
    if n_classes == 1:
        return margin
    return namespace(margin).concat([-margin / 2, margin / 2], axis=1)


def named(X, names):
    """Return `X` as the frame that a classifier was fitted on, where it was."""
    if names is None:
        return X
    import pandas as pd

    return pd.DataFrame(X, columns=names)


class NoTail:
    """No classifier: the input and nothing else."""

    n_outputs, head, layers, row_elements, device = 0, None, ("penultimate",), 0, "cpu"
    has_logits = has_decision = has_probabilities = False
    has_gradients = passes_through = True

    def matching(self, X):
        return self

    def compute(self, X, key, layers):
        return {key: X}

    def pull_back(self, X, layer, cotangent):
        return cotangent(X)


def estimator_tail(estimator, X):
    """Return the tail for a scikit-learn classifier, told by its outputs on rows."""
    weights = None
    if hasattr(estimator, "coefs_") and hasattr(estimator, "out_activation_"):
        weights = [
            (w.T, b)
            for w, b in zip(estimator.coefs_, estimator.intercepts_, strict=True)
        ]
        activation = estimator.activation
        true = estimator.out_activation_ in ("softmax", "logistic")
        if true and activation in _ACTIVATIONS:
            return _ChainTail(weights, activation, True, estimator)
    tail = _BlackBoxTail(estimator, X)
    coef, intercept = (getattr(estimator, a, None) for a in ("coef_", "intercept_"))
    if tail.has_decision and isinstance(coef, np.ndarray) and coef.ndim == 2:
        bias = np.zeros(len(coef)) + intercept
        if len(coef) in (1, tail.n_outputs) and coef.shape[1] == X.shape[1]:
            chain = _ChainTail([(coef, bias)], "identity", tail.has_logits, estimator)
            rows = to_numpy(X)
            found = chain.compute(rows, "decision", ())["decision"]
            known = tail.compute(rows, "decision", ())["decision"]
            if _agree(found, known):
                return chain
    return tail


def _agree(found, known):
    scale = max(1.0, float(np.abs(known).max(initial=0.0)))
    return (
        found.shape == known.shape and np.abs(found - known).max() <= _TOLERANCE * scale
    )


_ACTIVATIONS = {
    "identity": (lambda xp, v: v, lambda xp, v: xp.ones_like(v)),
    "relu": (
        lambda xp, v: xp.where(v > 0, v, 0.0),
        lambda xp, v: xp.astype(v > 0, v.dtype),
    ),
    "tanh": (lambda xp, v: xp.tanh(v), lambda xp, v: 1 - v**2),
    "logistic": (lambda xp, v: 1 / (1 + xp.exp(-v)), lambda xp, v: v * (1 - v)),
}


class _ChainTail:
    """Linear layers with known weights: computes in the library of its input.

    Gradients of an activation are written in terms of what it returns.
    """

    device, has_probabilities = "cpu", False
    has_decision = has_gradients = True

    def __init__(self, weights, activation, has_logits, estimator):
        self.estimator, self.activation = estimator, activation
        self.has_logits = has_logits
        *hidden, (weight, bias) = weights
        if len(weight) == 1 and len(estimator.classes_) == 2:
            weight, bias = np.r_[-weight / 2, weight / 2], np.r_[-bias / 2, bias / 2]
        self.weights = [*hidden, (weight, bias)]
        self.n_outputs = len(weight)
        self.head = (weight, bias)
        self.passes_through = not hidden
        names = [f"hidden_{i}" for i in range(len(hidden))]
        self.layers = (*names, "penultimate", "decision")
        self.row_elements = sum(len(weight) for weight, _ in self.weights)
        # classifiers whose decision values are no logits may have probabilities
        self.has_probabilities = not has_logits and hasattr(estimator, "predict_proba")

    def matching(self, X):
        return self

    def compute(self, X, key, layers):
        if key == "probabilities":
            return _probabilities(self.estimator, X)
        if key == "penultimate" and len(self.weights) == 1:
            return {key: X}
        return self._forward(X)

    def _forward(self, X):
        xp = namespace(X)
        found, values = {}, X
        function = _ACTIVATIONS[self.activation][0]
        for i, (weight, bias) in enumerate(self.weights):
            if i:
                values = function(xp, values)
                found[f"hidden_{i - 1}"] = values
            last = values
            values = values @ like(weight, X).T + like(bias, X)
        return {**found, "penultimate": last, "decision": values}

    def pull_back(self, X, layer, cotangent):
        xp, found = namespace(X), self._forward(X)
        depth = len(self.weights)  # linear layers before the one that was asked for
        if layer.startswith("hidden_"):
            depth = int(layer.split("_")[1]) + 1
        elif layer == "penultimate":
            depth -= 1
        gradient = cotangent(found[layer])
        slope = _ACTIVATIONS[self.activation][1]
        for i in reversed(range(depth)):
            if i < len(self.weights) - 1:
                gradient = gradient * slope(xp, found[f"hidden_{i}"])
            gradient = gradient @ like(self.weights[i][0], X)
        return gradient


def _probabilities(estimator, X):
    return {"probabilities": like(_asked(estimator, "predict_proba", to_numpy(X)), X)}


def _asked(estimator, method, rows):
    """Return what a method says to rows, as an array."""
    names = getattr(estimator, "feature_names_in_", None)
    return np.asarray(getattr(estimator, method)(named(rows, names)))


class _BlackBoxTail:
    """Any other scikit-learn classifier: its outputs, on the host, no gradients."""

    device, head, has_gradients, passes_through = "cpu", None, False, True

    def __init__(self, estimator, X):
        self.estimator = estimator
        self.n_outputs = len(estimator.classes_)
        self.has_probabilities = hasattr(estimator, "predict_proba")
        self.source = None
        rows = to_numpy(X)
        for source in ("decision_function", "predict_joint_log_proba"):
            if not hasattr(estimator, source):
                continue
            self.source = source
            if self._decision(rows).shape[1] == self.n_outputs:
                break
            self.source = None  # one value per pair of classes
        self.has_decision = self.source is not None
        self.has_logits = False
        if self.has_decision and self.has_probabilities:
            found = softmax(self._decision(rows).astype(np.float64))
            known = _asked(estimator, "predict_proba", rows)
            self.has_logits = _agree(found, known)
        self.layers = ("penultimate", *(["decision"] if self.has_decision else []))
        self.row_elements = 4 * self.n_outputs + X.shape[1]

    def matching(self, X):
        return self

    def _decision(self, rows):
        values = _asked(self.estimator, self.source, rows)
        return one_per_class(values, self.n_outputs)

    def compute(self, X, key, layers):
        if key == "penultimate":
            return {key: X}
        if key == "probabilities":
            return _probabilities(self.estimator, X)
        return {key: like(self._decision(to_numpy(X)), X)}


class ModuleTail:
    """A torch module: a copy in evaluation mode, whose hooks go as they came."""

    has_gradients, passes_through = True, False

    def __init__(self, module, X, image_shape, name, trained_on=None):
        import torch

        self.shape, self.name = image_shape, name
        self.module = copy.deepcopy(module).eval().requires_grad_(False)
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
        self.row_elements = 2 * sum(seen.values()) // max(rows, 1)

    @property
    def device(self):
        weight = self._weight()
        return "cpu" if weight is None else weight.device

    def _weight(self):
        tensors = (*self.module.parameters(), *self.module.buffers())
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
        return out[0] if isinstance(out, tuple | list) else out

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
