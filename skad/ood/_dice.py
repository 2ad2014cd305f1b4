"""DICE: the energy of a last layer that keeps the weights which matter."""

import warnings
from numbers import Real

import numpy as np

from skad._array import like, to_numpy
from skad._moments import mean_row
from skad._parameters import with_parameters
from skad._sklearn import Interval
from skad.ood._base import ClassifierDetector
from skad.ood._energy import energy


def sparse_weight(weight, mean_features, sparsity):
    """Return the weights (c, f), zero but for a share with the largest contribution."""
    contribution = weight * mean_features
    if sparsity == 0:
        return weight
    return np.where(contribution > np.quantile(contribution, sparsity), weight, 0.0)


@with_parameters
class DICE(ClassifierDetector):
    r"""Inputs of high energy under the weights that matter for training data.

    Of the last layer's weights :math:`W` those are kept whose contribution
    :math:`W_{ci} \, E[f_i]` to a logit, on average over the training data, is above its
    quantile `sparsity`; the others, which add noise to inputs from elsewhere, are zero:
    a mask :math:`M` [1]_. The result is the energy

    .. math:: a(x) = -\log \sum_c \exp\big(((W \circ M) f(x) + b)_c\big).

    ``score_samples`` is :math:`-a`. The map attributes the anomaly to the input by
    `attribution`.

    Read more in the :ref:`User Guide <ood>`.

    Parameters
    ----------
    sparsity : float, default=0.9
        Share of the weights that become zero; 0 keeps all.

    Attributes
    ----------
    weight_ : ndarray of shape (n_classes, n_last_features)
        The weights that are kept, the others zero.

    See Also
    --------
    Energy : With all weights.
    ReAct : Clips activations.

    Notes
    -----
    The classifier needs a last linear layer: that of a module, of ``MLPClassifier``, or
    the whole of a linear classifier, whose features are its input. The cost is the
    classifier's. With few features and the default of `sparsity`, which is the paper's
    for 342 features and more, little is left of the classifier. Of ten features and
    three classes a class keeps no weight: its logit is constant, and its rows score all
    but the same, lowest of all. The threshold of ``contamination="auto"`` comes from
    classifiers without some of the rows, whose shift of this logit differs by more than
    these scores do, so that it flags none of the class or many: .01 of new rows on
    average after 100 rows, and 0 to .19 after 1,000. Lower `sparsity` for few features;
    a class without a weight is a warning.

    References
    ----------
    .. [1] Y. Sun and Y. Li, "DICE: leveraging sparsification for out-of-distribution
       detection", ECCV, 2022, equations (2) and (3).

    Examples
    --------
    >>> import numpy as np
    >>> from skad.ood import DICE
    >>> rng = np.random.default_rng(0)
    >>> X = np.concatenate([rng.normal(-3, 1, (50, 2)), rng.normal(3, 1, (50, 2))])
    >>> y = np.repeat(["left", "right"], 50)
    >>> detector = DICE(sparsity=0.5).fit(X, y)
    >>> detector.predict_with_rejection([[-3.0, -3.0], [3.0, 3.0], [3.0, -3.0]])
    array(['left', 'right', -1], dtype=object)
    """

    _needs = ("logits", "head")
    _parameter_constraints = {
        "sparsity": [Interval(Real, 0, 1, closed="left")],
    }

    sparsity: float = 0.9

    def _learn_from(self, outputs, codes, known):
        mean = to_numpy(mean_row(outputs["penultimate"]))
        weight = to_numpy(outputs.view.head[0])
        self.weight_ = sparse_weight(weight, mean, self.sparsity)
        empty = ~self.weight_.any(axis=1)
        if empty.any() and not self._is_copy:
            warnings.warn(
                f"sparsity={self.sparsity} leaves {int(empty.sum())} of {len(empty)} "
                f"classes without a weight among {weight.shape[1]} features, whose "
                "logits do not see the input: pass a lower sparsity.",
                UserWarning,
                stacklevel=2,
            )

    def _score(self, outputs):
        features = outputs["penultimate"]
        bias = like(outputs.view.head[1], features)
        return energy(features @ like(self.weight_, features).T + bias)
