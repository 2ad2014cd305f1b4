"""The last step of a scikit-learn classifier, or of none: how outputs are computed.

A tail has the attributes of a `ClassifierView` that speak of outputs, and computes what
the view asks it for: a chain of linear layers with known weights, which has gradients
as well, or any other classifier by its methods. `_module_tail` has that of torch.
"""

import numpy as np

from skad._array import like, namespace, to_numpy
from skad._needed import need
from skad.embedding._logits import one_per_class, softmax

# Logits and probabilities belong together when they agree up to this.
_TOLERANCE = 1e-4


def named(X, names):
    """Return `X` as the frame that a classifier was fitted on, where it was."""
    if names is None:
        return X
    pd = need("pandas", "a classifier that was fitted on a frame")
    return pd.DataFrame(X, columns=names)


class NoTail:
    """No classifier: the input and nothing else."""

    n_outputs, head, layers, row_elements, device = 0, None, ("penultimate",), 0, "cpu"
    inner = ()
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
        self.inner = tuple(names)
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

    def shaped(self, X, layer, function):
        """Return the logits (b, c) where a layer's activations are changed on the way.

        `function` gets and returns them, (b, f).
        """
        return self._forward(X, {layer: function})["decision"]

    def _forward(self, X, changes=()):
        xp = namespace(X)
        found, values = {}, X
        function = _ACTIVATIONS[self.activation][0]
        for i, (weight, bias) in enumerate(self.weights):
            if i:
                values, name = function(xp, values), f"hidden_{i - 1}"
                values = changes[name](values) if name in changes else values
                found[name] = values
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
    inner = ()

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
