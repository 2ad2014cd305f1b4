"""A classifier as features, logits and input gradients, whatever library it is from.

What a classifier is gets found out once, when a `ClassifierView` is made: which of its
outputs are true logits, which weights its last layer has, which layers it has to offer
and whether gradients lead back to its input. A view computes in blocks, leaves the
user's model as it was, and keeps tensors on their device.
"""

import copy

import numpy as np
from sklearn import config_context
from sklearn.pipeline import Pipeline

from skad._array import blocks, like, namespace, to_numpy
from skad.embedding._classifier_fit import is_module, is_skorch, unwrapped
from skad.embedding._estimator_tails import NoTail, estimator_tail, named
from skad.embedding._logits import log_softmax
from skad.embedding._module_tail import ModuleTail

# Rows on which it is found out what the outputs of a fitted classifier are.
_PROBE_ROWS = 32


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
        estimator = unwrapped(classifier)
        self.name = type(estimator).__name__
        self.steps, last = [], estimator
        if isinstance(estimator, Pipeline):
            self.steps = [step for step in estimator.steps[:-1] if _transforms(step[1])]
            last = unwrapped(estimator.steps[-1][1])
        probe = X[:_PROBE_ROWS]
        self.affine = _affine(self.steps)
        self.classes = None
        if last is None:
            self.tail = NoTail()
        elif is_module(last) or is_skorch(last):
            module, trained_on = last, None
            if is_skorch(last):
                module, trained_on = last.module_, type(last.criterion_).__name__
                self.classes = np.asarray(last.classes_)
            rows = self._enter(probe)
            self.tail = ModuleTail(module, rows, image_shape, self.name, trained_on)
        else:
            self.tail = estimator_tail(last, self._enter(probe))
            self.classes = np.asarray(last.classes_)
        tail = self.tail
        self.classifier = classifier
        self.is_module = isinstance(tail, ModuleTail)
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
        view.tail, view.head = tail, tail.head
        return view

    @property
    def class_key(self):
        """Name of the outputs by whose largest value a class is predicted."""
        return "decision" if self.has_decision else "probabilities"

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

    def check_inner(self, layer):
        """Raise ValueError for a layer whose activations cannot be changed."""
        if layer not in self.tail.inner:
            inner = ("penultimate", *self.tail.inner)
            raise ValueError(
                f"layer={layer!r} is not a layer of {self.name} whose activations can "
                f"be shaped: these are {', '.join(map(repr, inner))}."
            )

    def shaped(self, outputs, layer, function):
        """Return the logits (b, c) where a layer's activations are changed on the way.

        `function` gets and returns them as rows (b, f), maps and tokens unrolled.
        """
        return self.tail.shaped(self._entered(outputs), layer, function)

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
                named(rows, getattr(step, "feature_names_in_", None))
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
        part = {name: chosen_rows(values, key) for name, values in self.known.items()}
        return Outputs(self.view, chosen_rows(self.X, key), self.layers, part)

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
    def row_elements(self):
        """Elements of what is known about a row."""
        return sum(int(np.prod(part.shape[1:])) for part in self.known.values())

    def has(self, keys):
        """Tell whether all of these have been computed."""
        return all(key in self.known or self.view.is_input(key) for key in keys)

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
        return log_softmax(
            xp.log(xp.where(probabilities > tiny, probabilities, tiny)), temperature
        )

    def probabilities(self, temperature=1.0):
        """Return the class probabilities (b, c)."""
        if temperature == 1.0 and not self.view.has_logits:
            return self["probabilities"]
        logarithms = self.log_probabilities(temperature)
        return namespace(logarithms).exp(logarithms)

    def predicted(self):
        """Return the index of the predicted class (b,)."""
        values = self[self.view.class_key]
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


def chosen_rows(values, rows):
    """Return rows of arrays, tensors or outputs by a slice, by indices or by a mask."""
    if not isinstance(rows, slice) and not isinstance(values, Outputs):
        rows = like(rows, values, dtype="keep")
    return values[rows]


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
