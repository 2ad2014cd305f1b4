"""What the shaping of activations shares: where it happens, and the largest ones."""

from skad._array import namespace
from skad._parameters import with_parameters
from skad.neighbors._smallest import smallest
from skad.ood._base import ClassifierDetector
from skad.ood._energy import energy


def largest(features, pruned):
    """Return which of each row's features (b, f) are among its largest, (b, f).

    A share `pruned` is not, but at least one is.
    """
    xp = namespace(features)
    f = features.shape[1]
    kept = max(1, f - round(f * pruned))
    if kept == f:
        return xp.ones_like(features, dtype=xp.bool)
    mask = xp.zeros_like(features, dtype=xp.bool)
    rows = xp.arange(features.shape[0], device=getattr(features, "device", None))
    chosen = smallest(-features, kept)
    # a plain True would be copied to a GPU at every call
    mask[rows[:, None], chosen] = xp.ones_like(chosen, dtype=xp.bool)
    return mask


def spread(features, mask):
    """Return the sum of each row's features over that of its masked ones, (b, 1).

    Below zero counts as zero, as behind a rectified linear unit; 1 where nothing is
    above.
    """
    xp = namespace(features)
    positive = xp.where(features > 0, features, 0.0)
    whole = xp.sum(positive, axis=1, keepdims=True)
    held = xp.sum(xp.where(mask, positive, 0.0), axis=1, keepdims=True)
    return xp.where(held > 0, whole / xp.where(held > 0, held, 1.0), 1.0)


@with_parameters
class ShapedEnergy(ClassifierDetector):
    """Base of the detectors by the energy of what shaped activations lead to.

    A method writes `_shape`.

    Parameters
    ----------
    layer : str, default="penultimate"
        Whose activations are shaped: "penultimate", what enters the last linear layer;
        or a layer inside of the network, from which the rest of it goes on: a module's
        name of a layer, or "hidden_0" and so on of ``MLPClassifier``. Maps and tokens
        are shaped as a whole, before they are averaged over place.
    """

    _parameter_constraints = {"layer": [str]}

    layer: str = "penultimate"

    @property
    def _needs(self):
        return ("logits", "head") if self.layer == "penultimate" else ("logits",)

    def _shape(self, activations):
        """Return activations (b, f) of the layer in their new shape, (b, f)."""
        raise NotImplementedError

    def _layers(self):
        return ("penultimate",) if self.layer == "penultimate" else ()

    def _passes_again(self):
        return self.layer != "penultimate"

    def _view(self, X, labels):
        found = super()._view(X, labels)
        if self.layer != "penultimate":
            found[0].check_inner(self.layer)
        return found

    def _score(self, outputs):
        if self.layer == "penultimate":
            features = self._shape(outputs["penultimate"])
            return energy(self._logits(outputs, features))
        return energy(outputs.view.shaped(outputs, self.layer, self._shape))
