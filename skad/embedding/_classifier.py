"""A classifier as features, logits and input gradients, whatever library it is from.

What a classifier is gets found out once, when a `ClassifierView` is made: which of its
outputs are true logits, which weights its last layer has, which layers it has to offer
and whether gradients lead back to its input. A view computes in blocks, leaves the
user's model as it was, and keeps tensors on their device.
"""

import copy
import threading
from contextlib import contextmanager

import numpy as np
from sklearn import config_context
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils import get_tags
from sklearn.utils.validation import check_is_fitted

from skad._array import blocks, is_torch, like, namespace, to_numpy

# Rows on which it is found out what the outputs of a fitted classifier are.
_PROBE_ROWS = 32
# Logits and probabilities belong together when they agree up to this.
_TOLERANCE = 1e-4


# ------------------------------------------------------------------ outputs as formulas


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


# ----------------------------------------------------------------- what a classifier is


def is_module(classifier):
    """Tell whether `classifier` is a torch module, without importing torch."""
    return any(
        kind.__module__ == "torch.nn.modules.module" and kind.__name__ == "Module"
        for kind in type(classifier).__mro__
    )


def is_skorch(classifier):
    """Tell whether `classifier` is a skorch net, without importing skorch."""
    return any(
        kind.__module__ == "skorch.net" and kind.__name__ == "NeuralNet"
        for kind in type(classifier).__mro__
    )


def is_fitted_already(classifier):
    """Tell whether `classifier` is taken as it is: a module, or a frozen estimator."""
    return is_module(classifier) or isinstance(classifier, FrozenEstimator)


def learns_from_labels(classifier):
    """Tell whether fitting with `classifier` needs class labels."""
    if is_fitted_already(classifier):
        return False
    if isinstance(classifier, Pipeline):
        return learns_from_labels(classifier.steps[-1][1])
    return is_skorch(classifier) or get_tags(classifier).target_tags.required


def fitted_classifier(classifier, X, y):
    """Return a fitted classifier, and its classes where it does not know them itself.

    One that is fitted already is returned as it is, else a clone is fitted. `y` are
    class labels of any type, or None for a classifier that needs none.
    """
    if classifier is None:
        return None, None
    if is_fitted_already(classifier):
        if isinstance(classifier, FrozenEstimator):
            check_is_fitted(classifier.estimator)
        return classifier, None
    X, classes = to_numpy(X), None
    last = classifier.steps[-1][1] if isinstance(classifier, Pipeline) else classifier
    if is_skorch(last):  # its losses take the index of a class
        classes, y = np.unique(y, return_inverse=True)
        X, y = X.astype(np.float32, copy=False), y.astype(np.int64)
    fitted = clone(classifier)
    with config_context(transform_output="default"):
        fitted.fit(X) if y is None else fitted.fit(X, y)
    return fitted, classes


def class_codes(labels, classes, n_outputs=None):
    """Return the classes in the order of the outputs, and each label's index in them.

    Parameters
    ----------
    labels : ndarray of shape (n,)
        Class labels of any type.
    classes : ndarray or None
        The classifier's own; None for a module, whose columns have no names. Then
        labels that are column numbers are these, and others are taken in sorted order
        if there are as many as columns.
    n_outputs : int or None
        Columns of a module.

    Returns
    -------
    classes : ndarray of shape (c,)
    codes : ndarray of shape (n,)
    """
    own = np.unique(labels)
    if classes is None and n_outputs is None:
        classes = own
    elif classes is None:
        classes = np.arange(n_outputs)
        if len(own) == n_outputs:
            classes = own
        elif own.dtype.kind not in "iub" or own[0] < 0 or own[-1] >= n_outputs:
            raise ValueError(
                f"y has {len(own)} classes and the classifier {n_outputs} outputs: "
                "labels other than 0, 1, ... need a row of every class."
            )
    classes = np.asarray(classes)
    unknown = ~np.isin(own, classes)
    if unknown.any():
        raise ValueError(
            f"y has the class {own[unknown][0]!r}, which the classifier does not know "
            f"(classes {classes.tolist()[:10]})."
        )
    order = np.argsort(classes, kind="stable")
    return classes, order[np.searchsorted(classes[order], labels)]


class ClassifierView:
    """What a fitted classifier has to say about rows.

    Parameters
    ----------
    classifier : classifier, module or None
        Fitted. None has no outputs, and its only features are the input.
    X : array or tensor of shape (n, d)
        Rows to find out with; the first few are enough.
    image_shape : tuple of int or None
        (h, w, c) of rows that are images; modules and nets get them as (b, c, h, w).

    Attributes
    ----------
    classes : ndarray of shape (c,) or None
        Labels of the outputs; None where they have none.
    n_outputs : int
        Number of classes, 0 without a classifier.
    has_logits, has_decision, has_probabilities, has_class : bool
        Whether there are true logits; one value per class, of whatever kind;
        probabilities, from logits or not; one of these, so that a class is predicted.
    head : (weight, bias) of shapes (c, f) and (c,), or None
        The last layer: logits = penultimate @ weight.T + bias.
    has_gradients : bool
        Whether gradients lead from the outputs to the input.
    layers : tuple of str
        Names of the features on offer.
    row_elements : int
        Temporary elements that one row costs.
    is_module : bool
        Whether it computes with torch.
    name : str
        For messages.
    """

    def __init__(self, classifier, X, image_shape=None):
        estimator = classifier
        if isinstance(estimator, FrozenEstimator):
            estimator = estimator.estimator
        self.name = type(estimator).__name__
        self.steps, last = [], estimator
        if isinstance(estimator, Pipeline):
            self.steps = [step for step in estimator.steps[:-1] if _transforms(step[1])]
            last = estimator.steps[-1][1]
            if isinstance(last, FrozenEstimator):
                last = last.estimator
        probe = X[:_PROBE_ROWS]
        self.affine = _affine(self.steps)
        self.classes = None
        if last is None:
            self.tail = _NoTail()
        elif is_module(last) or is_skorch(last):
            module, trained_on = last, None
            if is_skorch(last):
                module, trained_on = last.module_, type(last.criterion_).__name__
                self.classes = np.asarray(last.classes_)
            rows = self._enter(probe)
            self.tail = _ModuleTail(module, rows, image_shape, self.name, trained_on)
        else:
            self.tail = _estimator_tail(last, self._enter(probe))
            self.classes = np.asarray(last.classes_)
        tail = self.tail
        self.classifier = classifier
        self.is_module = isinstance(tail, _ModuleTail)
        self.n_outputs = tail.n_outputs
        self.has_logits, self.has_decision = tail.has_logits, tail.has_decision
        self.has_probabilities = tail.has_probabilities or tail.has_logits
        self.has_class = self.has_decision or self.has_probabilities
        self.head = tail.head
        self.has_gradients = tail.has_gradients and self.affine is not None
        self.layers = ("input", *(name for name, _ in self.steps), *tail.layers)
        self.row_elements = X.shape[1] * (1 + len(self.steps)) + tail.row_elements

    @property
    def device(self):
        """Device on which the classifier computes: "cpu" where it has none."""
        return self.tail.device

    @property
    def module(self):
        """The copy of a module that is computed with; None for other classifiers."""
        return self.tail.module if is_module(self.classifier) else None

    def matching(self, X):
        """Return a view that computes in the dtype, and on the device, of `X`."""
        tail = self.tail.matching(X)
        if tail is self.tail:
            return self
        view = copy.copy(self)
        view.tail = tail
        return view

    def require(self, what, caller):
        """Raise ValueError where the classifier does not give what a method needs."""
        if what == "features" or getattr(self, f"has_{what}", self.head is not None):
            return
        have = "its class probabilities only" if self.has_probabilities else "only"
        if self.tail.has_decision and not self.has_logits:
            have = (
                "decision values that are no logits: their softmax is not what "
                "predict_proba returns"
            )
        reason = {
            "logits": f"{caller} needs true logits, and {self.name} gives {have}.",
            "decision": f"{caller} needs one value per class, and {self.name} gives "
            "none.",
            "class": f"{caller} needs a predicted class, and {self.name} gives none.",
            "probabilities": f"{caller} needs class probabilities, and {self.name} "
            "gives none.",
            "head": f"{caller} needs the weights of a last linear layer that makes the "
            f"logits, and {self.name} has none.",
            "gradients": f"{caller} needs gradients to the input, and {self.name} gives"
            " none.",
        }[what]
        raise ValueError(
            f"{reason} Pass another classifier, such as LogisticRegression, "
            "MLPClassifier, or a torch module that returns logits."
        )

    def check_layer(self, layer):
        """Raise ValueError for a layer that the classifier does not have."""
        if layer not in self.layers:
            raise ValueError(
                f"layer={layer!r} is not a layer of {self.name}: it has "
                f"{', '.join(map(repr, self.layers))}."
            )

    def is_input(self, key):
        """Tell whether a layer is the input itself."""
        through = key == "penultimate" and self.tail.passes_through and not self.steps
        return key == "input" or through

    def compute(self, outputs, key):
        """Return {key: values} with what `outputs` asks for, perhaps with more."""
        X = outputs.X
        if key == "input":
            return {key: X}
        for i, (name, step) in enumerate(self.steps):
            if key == name:
                before = X if i == 0 else outputs[self.steps[i - 1][0]]
                return {key: self._step(before, step)}
        return self.tail.compute(self._entered(outputs), key, outputs.layers)

    def pull_back(self, X, layer, cotangent):
        """Return the gradient (b, d) to the input of what follows a layer.

        `cotangent` gets the layer's values (b, f) and returns the gradient to them.
        """
        shift, scale = self.affine
        if layer == "input":
            return cotangent(X)
        rows = X if shift is None else (X - like(shift, X)) / like(scale, X)
        if layer in dict(self.steps):
            gradient = cotangent(rows)
        else:
            gradient = self.tail.pull_back(rows, layer, cotangent)
        return gradient if scale is None else gradient / like(scale, gradient)

    def _entered(self, outputs):
        """Return what enters the last step."""
        if not self.steps:
            return outputs.X
        if outputs.differentiable:
            shift, scale = (like(part, outputs.X) for part in self.affine)
            return (outputs.X - shift) / scale
        return outputs[self.steps[-1][0]]

    def _enter(self, X):
        for _, step in self.steps:
            X = self._step(X, step)
        return X

    def _step(self, X, step):
        rows = to_numpy(X)
        with config_context(transform_output="default"):
            found = step.transform(
                _named(rows, getattr(step, "feature_names_in_", None))
            )
        found = found.toarray() if hasattr(found, "toarray") else np.asarray(found)
        return like(found.astype(rows.dtype, copy=False), X)


class Outputs:
    """Rows with what a classifier says about them, computed when it is asked for.

    Behaves as a table of the rows: it has a shape and can be sliced, and detectors take
    it in place of the rows.

    Parameters
    ----------
    view : ClassifierView
        The classifier.
    X : array or tensor of shape (b, d)
        The rows.
    layers : sequence of str
        Features that will be asked for, so that one pass is enough.
    known : dict or None
        What has been computed.
    differentiable : bool
        Whether gradients will be taken to `X`.
    """

    def __init__(self, view, X, layers=(), known=None, differentiable=False):
        self.view, self.X, self.layers = view, X, tuple(layers)
        self.known = {} if known is None else known
        self.differentiable = differentiable

    def __getitem__(self, key):
        if isinstance(key, str):
            if key not in self.known:
                self.known.update(self.view.compute(self, key))
            return self.known[key]
        part = {name: _take(values, key) for name, values in self.known.items()}
        return Outputs(self.view, _take(self.X, key), self.layers, part)

    @property
    def shape(self):
        """Shape of the rows."""
        return self.X.shape

    @property
    def dtype(self):
        """Type of the rows' elements."""
        return self.X.dtype

    @property
    def ndim(self):
        """Number of axes of the rows."""
        return self.X.ndim

    @property
    def decision(self):
        """One value per class, (b, c): logits where the classifier has them."""
        return self["decision"]

    @property
    def logits(self):
        """True logits (b, c)."""
        return self["decision"]

    def log_probabilities(self, temperature=1.0):
        """Return the logarithms of the class probabilities (b, c).

        Of probabilities without logits the logarithms stand in for logits, from which
        they differ by a constant of each row.
        """
        if self.view.has_logits:
            return log_softmax(self["decision"], temperature)
        probabilities = self["probabilities"]
        xp = namespace(probabilities)
        tiny = float(xp.finfo(probabilities.dtype).tiny)
        return log_softmax(xp.log(xp.clip(probabilities, tiny, None)), temperature)

    def probabilities(self, temperature=1.0):
        """Return the class probabilities (b, c)."""
        if temperature == 1.0 and not self.view.has_logits:
            return self["probabilities"]
        return namespace(self.X).exp(self.log_probabilities(temperature))

    def predicted(self):
        """Return the index of the predicted class (b,)."""
        view = self.view
        values = self["decision" if view.has_decision else "probabilities"]
        return namespace(values).argmax(values, axis=1)

    def extracted(self, keys):
        """Return the same rows with `keys` computed in blocks of bounded memory."""
        keys = [key for key in dict.fromkeys(keys) if key not in self.known]
        known = {key: self.X for key in keys if self.view.is_input(key)}
        parts = {key: [] for key in keys if key not in known}
        size = self.shape[0], self.view.row_elements, self.view.device
        for rows in blocks(*size) if parts else ():
            block = self[rows]
            for key, values in parts.items():
                values.append(block[key])
        known |= {key: namespace(v[0]).concat(v) for key, v in parts.items()}
        return Outputs(self.view, self.X, self.layers, {**self.known, **known})


def _take(values, rows):
    if not isinstance(rows, slice):
        rows = like(rows, values, dtype="keep")
    return values[rows]


# ---------------------------------------------------------------------- parts of a view


def _transforms(step):
    return step is not None and not (isinstance(step, str) and step == "passthrough")


def _affine(steps):
    """Return (shift, scale) of one standardising step or of none, else None."""
    if not steps:
        return None, None
    step = steps[0][1]
    if len(steps) > 1 or type(step).__name__ != "StandardScaler":
        return None
    zero = np.zeros(step.n_features_in_)
    return (
        step.mean_ if step.with_mean else zero,
        step.scale_ if step.with_std else zero + 1.0,
    )


def _named(X, names):
    """Return `X` as the frame that a classifier was fitted on, where it was."""
    if names is None:
        return X
    import pandas as pd

    return pd.DataFrame(X, columns=names)


class _NoTail:
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


def _estimator_tail(estimator, X):
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
    return np.asarray(getattr(estimator, method)(_named(rows, names)))


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


class _ModuleTail:
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

        dtype = X.dtype if is_torch(X) else getattr(torch, str(X.dtype))
        device = X.device if is_torch(X) else torch.device(self.device)
        if dtype == self.dtype and device == torch.device(self.device):
            return self
        tail = copy.copy(self)
        tail.module = copy.deepcopy(self.module).to(dtype=dtype, device=device)
        tail.dtype = dtype
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
