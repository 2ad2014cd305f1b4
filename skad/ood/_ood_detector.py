"""Any detector of anomalies on the features of a classifier."""

from typing import Any

import numpy as np
from sklearn.base import clone

from skad._array import is_torch, like, namespace, to_numpy
from skad._members import without_threshold
from skad._parameters import KW_ONLY, with_parameters
from skad._sklearn import HasMethods
from skad.base import BaseDetector
from skad.embedding._classifier import Outputs, chosen_rows
from skad.ood._base import ClassifierDetector


def anomaly_of(detector, features):
    """Return the anomaly (b,) of rows that need no second validation."""
    if isinstance(detector, BaseDetector):
        return detector._in_blocks(detector._anomaly, features)
    return like(-detector.score_samples(to_numpy(features)), features, dtype="keep")


@with_parameters(kw_only=False)
class OODDetector(ClassifierDetector):
    r"""Inputs whose features in a classifier are anomalous to another detector.

    A classifier turns inputs :math:`x` into features :math:`f(x)`, and a detector
    learns what is normal among those of the training data. With the detector's anomaly
    :math:`b`,

    .. math:: a(x) = b(f(x)).

    With `per_class` there is a detector for each class, which has seen its rows alone,
    and the anomaly is that of the nearest, :math:`a(x) = \min_c b_c(f(x))`.
    ``score_samples`` is :math:`-a`. The map attributes the anomaly to the input by
    `attribution`. The named detectors around a classifier, such as `MahalanobisOOD`,
    are this with one detector each, and with what else their papers do.

    Read more in the :ref:`User Guide <ood>`.

    Parameters
    ----------
    classifier : classifier, torch.nn.Module or None, default=None
        Whose inputs are judged: a scikit-learn classifier or a skorch net, which is
        cloned and fitted unless it comes in a ``FrozenEstimator``, or a trained module.
        None takes the input itself for features.
    detector : detector, default=None
        What is fitted on the features: any detector on vectors, of this package or of
        scikit-learn. It is cloned; its threshold is not used. None is
        ``Mahalanobis()``.
    layer : str, default="penultimate"
        Where the features are taken: "penultimate", what enters the last linear layer;
        "decision", the values per class; "input"; a module's name of a layer; the name
        of a pipeline's step; "hidden_0" and so on of ``MLPClassifier``. Maps and tokens
        are averaged over place.
    per_class : bool, default=False
        Whether each class has a detector of its own. For detectors whose anomalies mean
        the same in every class: distances, or minus the logarithm of a density.

    Attributes
    ----------
    detector_ : detector
        The fitted detector; not with `per_class`.
    detectors_ : list of detectors
        With `per_class` those of the classes that training rows have, in order.

    See Also
    --------
    MahalanobisOOD : Gaussians of the classes.
    KNNOOD : Distances to training features of length one.

    Notes
    -----
    The classifier learns from class labels, the detector from all features alike, or
    from those of each class with `per_class`, where a fitted classifier's predictions
    take the place of labels that are not given. One Gaussian per class,
    ``OODDetector(classifier, GMM(), per_class=True)``, is the best of all scores on
    networks for scikit-learn's digits: ROC AUC .975 and .979 for two kinds of networks,
    against .857 and .818 for one Gaussian of all classes and .942 for Gaussians with
    one covariance. It takes more rows of every class than there are features.

    With ``attribution="auto"``, gradients are taken where the detector lets them
    through, as those do that are written in array operations alone. The cost is the
    classifier's and the detectors' on the features.

    References
    ----------
    .. [1] J. Yang et al., "Generalized out-of-distribution detection: a survey",
       International Journal of Computer Vision, 2024, section 3.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.neural_network import MLPClassifier
    >>> from skad.neighbors import KNN
    >>> from skad.ood import OODDetector
    >>> rng = np.random.default_rng(0)
    >>> X = np.concatenate([rng.normal(-3, 1, (50, 2)), rng.normal(3, 1, (50, 2))])
    >>> y = np.repeat(["left", "right"], 50)
    >>> classifier = MLPClassifier((16,), max_iter=1000, random_state=0)
    >>> detector = OODDetector(classifier, KNN(), layer="hidden_0").fit(X, y)
    >>> detector.predict([[-3.0, -3.0], [3.0, 3.0], [4.0, -4.0]])
    array([ 1,  1, -1])
    """

    _needs = ("features",)
    _default_classifier = None
    _parameter_constraints = {
        "detector": [HasMethods(["fit", "score_samples"]), None],
        "layer": [str],
        "per_class": ["boolean"],
    }

    detector: Any = None
    _: KW_ONLY
    layer: str = "penultimate"
    per_class: bool = False

    @property
    def _needs_classes(self):
        return self.per_class

    def _learn_from(self, outputs, codes, known):
        detector = self.detector
        if detector is None:
            from skad.density import Mahalanobis

            detector = Mahalanobis()
        features = outputs[self.layer]
        if not isinstance(detector, BaseDetector):
            features = to_numpy(features)
        if self.per_class:
            codes = self._codes(outputs, codes)
            self.detectors_ = [
                self._fitted(detector, features, codes, code)
                for code in np.unique(codes)
            ]
        else:
            self.detector_ = without_threshold(clone(detector)).fit(features)
        if self._attribution_ != "ablation" and not self._differentiable(outputs[:1]):
            if self.attribution != "auto":
                raise ValueError(
                    f"attribution={self.attribution!r} needs gradients, and "
                    f"{type(detector).__name__} lets none through: take 'ablation'."
                )
            self._attribution_ = "ablation"

    def _fitted(self, detector, features, codes, code):
        """Return a detector that has seen the features (n, f) of one class."""
        own = np.flatnonzero(codes == code)
        try:
            return without_threshold(clone(detector)).fit(chosen_rows(features, own))
        except ValueError as error:
            label = code if self.classes_ is None else self.classes_[code]
            raise ValueError(
                f"{type(detector).__name__} cannot be fitted to the {len(own)} rows of "
                f"the class {label} alone (per_class=True): {error}"
            ) from error

    def _members(self):
        return self.detectors_ if self.per_class else [self.detector_]

    def _differentiable(self, outputs):
        """Tell whether gradients lead from the detector to the input."""
        import torch

        rows = outputs.X if is_torch(outputs.X) else torch.tensor(outputs.X)
        rows = rows.detach().clone().requires_grad_(True)
        try:
            score = self._score(Outputs(outputs.view, rows, (self.layer,), None, True))
            torch.autograd.grad(score.sum(), rows)
        except (RuntimeError, TypeError, ValueError):
            return False
        return True

    def _score_elements(self):
        elements = super()._score_elements()
        for member in self._members():
            if isinstance(member, BaseDetector):
                elements += member._row_elements()
        return elements

    def _score(self, outputs):
        features = outputs[self.layer]
        found = [anomaly_of(member, features) for member in self._members()]
        return namespace(found[0]).min(namespace(found[0]).stack(found), axis=0)
