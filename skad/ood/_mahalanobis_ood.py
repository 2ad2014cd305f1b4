"""Mahalanobis distance of features to the nearest class."""

from collections.abc import Sequence
from functools import partial
from numbers import Real

import numpy as np
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
from sklearn.model_selection import StratifiedKFold

from skad._array import like, namespace, to_numpy
from skad._parameters import with_parameters
from skad._sklearn import Interval
from skad.neighbors._search import unit_rows
from skad.ood._base import ClassifierDetector
from skad.ood._gaussian import TiedGaussian
from skad.ood._perturbation import EPSILON, best_epsilon, step_against


def layer_weights(inside, outside):
    """Return weights (l,) of layers that tell rows from outliers, both (n, l).

    Logistic regression on the layers' distances, its penalty chosen by
    cross-validation where there are enough rows. A distance beyond ten times what 95 %
    of the rows have counts as that: where a unit fires that was constant it has no
    bound, and one such row would decide on the unit of its layer.
    """
    usual = np.quantile(inside, 0.95, axis=0)
    X = np.concatenate([inside, outside])
    X = np.minimum(X, np.where(usual > 0, 10 * usual, np.inf))
    y = np.repeat([0, 1], [len(inside), len(outside)])
    unit = X.std(axis=0)
    unit = np.where(unit > 0, unit, 1.0)
    folds = min(5, len(inside), len(outside))
    model = LogisticRegression()
    if folds > 1:
        model = LogisticRegressionCV(
            Cs=10,
            cv=StratifiedKFold(folds),
            l1_ratios=(0,),
            scoring="accuracy",
            use_legacy_attributes=False,
        )
    return model.fit((X - X.mean(axis=0)) / unit, y).coef_[0] / unit


def through_unit_rows(features, gradient):
    """Return the gradient (b, f) to features of one to them at length one.

    Along themselves they do not change what they are at length one. A row of zeros
    stays one.
    """
    xp, unit = namespace(features), unit_rows(features)
    across = gradient - unit * xp.vecdot(unit, gradient)[:, None]
    length = xp.sqrt(xp.vecdot(features, features))[:, None]
    return across / xp.where(length > 0, length, 1.0)


@with_parameters
class MahalanobisOOD(ClassifierDetector):
    r"""Inputs whose features are far from every class, in the classes' covariance.

    In each layer :math:`l` the features of a class are a Gaussian around its mean
    :math:`\mu_{lc}`, all with one covariance :math:`\Sigma_l`. The anomaly is a
    weighted sum of squared Mahalanobis distances to the nearest class [1]_,

    .. math:: a(x) = \sum_l \alpha_l \min_c \, (f_l(x_l) - \mu_{lc})^T \Sigma_l^{-1}
        (f_l(x_l) - \mu_{lc}), \qquad
        x_l = x - \epsilon \, \mathrm{sign} \nabla_x d_l(x),

    where the input takes a small step against each layer's own distance :math:`d_l`.
    ``score_samples`` is :math:`-a`. The map attributes the anomaly to the input by
    `attribution`, with the step held fixed.

    Read more in the :ref:`User Guide <ood>`.

    Parameters
    ----------
    classifier : classifier, torch.nn.Module or None, default=None
        Whose inputs are judged: a scikit-learn classifier or a skorch net, which is
        cloned and fitted unless it comes in a ``FrozenEstimator``, or a trained module.
        None takes the input itself for features.
    layer : str or list of str, default="penultimate"
        Where the features are taken, in one layer or several: "penultimate", what
        enters the last linear layer; "decision", the values per class; "input"; a
        module's name of a layer; the name of a pipeline's step; "hidden_0" and so on of
        ``MLPClassifier``. Maps and tokens are averaged over place.
    epsilon : float or tuple of float, default=0.0
        Length of the step in the units of the input. Of several the best is chosen:
        with known outliers the one that flags most of them while 95 % of the rows in
        the distribution are kept, without any the one with the lowest mean anomaly.
    normalize : bool, default=False
        Whether features are brought to length one first, which keeps long ones from
        being far from their class (Mahalanobis++ [2]_).
    tol : float, default=1e-12
        Eigenvalues of the correlation matrix below `tol` times the largest are raised
        to that, and a constant feature gets the deviation ``tol ** 0.5`` times its own
        size, or, where it is zero, .01 of the least deviation of another. Without more
        rows than dimensions, relations between features are left out instead.

    Attributes
    ----------
    epsilon_ : float
        The step that is used.
    layer_weights_ : ndarray of shape (n_layers,)
        The weights :math:`\alpha_l`: of a logistic regression where outliers are known,
        else ones.
    means_ : list of ndarray of shape (n_classes, n_features_of_layer)
        The means :math:`\mu_{lc}` of each layer.

    See Also
    --------
    RelativeMahalanobis : Subtracts the distance to all training data.
    skad.density.Mahalanobis : One class, with other estimates of the covariance.

    Notes
    -----
    Without class labels the predictions of a fitted classifier take their place;
    without a classifier all rows are one class. Known outliers (`y_ood` of `fit`)
    choose `epsilon` and the layers' weights. A step needs gradients to the input.
    Covariances are estimated in double precision, and directions without variance
    get a small one relative to the largest, so that spectra over ten decades hold and
    a unit that was constant and fires is far out. `fit` costs O(n f^2 + f^3) a layer,
    scoring O(f^2 + f c) a row beside the classifier, and two passes more for each layer
    with a step. The paper's factor 1/2 is left out, as in `Mahalanobis`. On
    scikit-learn's digits (0 to 4 known) ROC AUC is .942 in the mean of three networks,
    and .966 with `normalize`.

    References
    ----------
    .. [1] K. Lee et al., "A simple unified framework for detecting out-of-distribution
       samples and adversarial attacks", NeurIPS, 2018, equations (1) to (4) and
       algorithm 1.
    .. [2] M. Mueller and M. Hein, "Mahalanobis++: improving OOD detection via feature
       normalization", ICML, 2025.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.ood import MahalanobisOOD
    >>> rng = np.random.default_rng(0)
    >>> X = np.concatenate([rng.normal(-3, 1, (50, 2)), rng.normal(3, 1, (50, 2))])
    >>> y = np.repeat(["left", "right"], 50)
    >>> detector = MahalanobisOOD().fit(X, y)
    >>> detector.predict([[-3.0, -3.0], [3.0, 3.0], [4.0, -4.0]])
    array([ 1,  1, -1])
    """

    _needs = ("features",)
    _default_classifier = None
    _parameter_constraints = {
        "layer": [str, list, tuple],
        "epsilon": EPSILON,
        "normalize": ["boolean"],
        "tol": [Interval(Real, 0, 1, closed="left")],
    }

    layer: str | Sequence[str] = "penultimate"
    epsilon: float | Sequence[float] = 0.0
    normalize: bool = False
    tol: float = 1e-12

    def _score_elements(self):
        return 4 * sum(means.shape[1] for means in self.means_)

    def _passes_again(self):
        return self.epsilon_ > 0

    def _learn_from(self, outputs, codes, known):
        codes, layers = self._codes(outputs, codes), self._layers()
        self._gaussians_ = [
            TiedGaussian(self._scaled(outputs[layer]), codes, self.tol)
            for layer in layers
        ]
        self.means_ = [gaussian.means for gaussian in self._gaussians_]

        def anomaly_of(epsilon):
            self.epsilon_, self.layer_weights_ = epsilon, np.ones(len(layers))
            if epsilon:
                outputs.view.require("gradients", f"epsilon={epsilon}")
            distances = [
                p and to_numpy(self._in_blocks(self._distances, p))
                for p in (outputs, known)
            ]
            if known is not None:
                self.layer_weights_ = layer_weights(*distances)
            return [d is not None and d @ self.layer_weights_ for d in distances]

        self.epsilon_ = best_epsilon(self.epsilon, anomaly_of, known is not None)
        anomaly_of(self.epsilon_)

    def _scaled(self, features):
        return unit_rows(features) if self.normalize else features

    def _gradient(self, gaussian, features):
        """Return the gradient (b, f) of the distance to features of any length."""
        found = gaussian.gradient(self._scaled(features))
        return through_unit_rows(features, found) if self.normalize else found

    def _distances(self, view, outputs):
        """Return the squared distances (b, l) to the nearest class in each layer."""
        found = []
        for layer, gaussian in zip(self._layers(), self._gaussians_, strict=True):
            gradient = partial(self._gradient, gaussian)
            moved = step_against(outputs, layer, gradient, self.epsilon_)
            found.append(gaussian.nearest(self._scaled(moved[layer]))[0])
        return namespace(found[0]).stack(found, axis=1)

    def _score(self, outputs):
        distances = self._distances(outputs.view, outputs)
        return distances @ like(self.layer_weights_, distances)
