"""From scores to probabilities: unified scores, isotonic and sigmoid calibration."""

from numbers import Real
from typing import Any

import numpy as np
from scipy.optimize import minimize
from scipy.special import erf, expit, gammainc
from sklearn.isotonic import IsotonicRegression
from sklearn.utils import ClassifierTags
from sklearn.utils.validation import check_is_fitted

from skad._array import is_torch, like, to_numpy
from skad._moments import mean_and_deviation
from skad._parameters import with_parameters
from skad._rows import n_rows
from skad._sklearn import StrOptions
from skad.calibration._base import DetectorAround
from skad.calibration._held import known_anomalies
from skad.calibration._labels import known_labels, own_offset

WITH_LABELS = ("isotonic", "sigmoid")

# A gamma distribution of so large a shape is a Gaussian.
_LARGEST_SHAPE = 1e8


def regularized(anomaly, baseline):
    """Return how far anomalies lie above the baseline, which is 0 below it."""
    return anomaly if baseline is None else np.maximum(anomaly - baseline, 0.0)


def linear_scaling(anomaly, lowest, highest):
    """Return the place of anomalies between the lowest and the highest, 0 to 1."""
    spread = highest - lowest
    return np.clip((anomaly - lowest) / (spread if spread > 0 else 1.0), 0.0, 1.0)


def gaussian_scaling(anomaly, mean, deviation):
    """Return how improbable so low an anomaly is in a Gaussian; 0 up to the mean."""
    return np.maximum(0.0, erf((anomaly - mean) / (deviation * np.sqrt(2))))


def gamma_scaling(anomaly, mean, deviation):
    """Return the same in a gamma distribution of this mean and deviation."""
    if mean <= 0:  # all anomalies are zero
        return (anomaly > 0).astype(np.float64)
    shape = (mean / deviation) ** 2
    if shape > _LARGEST_SHAPE:
        return gaussian_scaling(anomaly, mean, deviation)
    below = gammainc(shape, anomaly / mean * shape)
    at_mean = gammainc(shape, shape)
    return np.maximum(0.0, (below - at_mean) / (1 - at_mean))


def fit_sigmoid(anomaly, is_anomaly):
    """Return slope and intercept of Platt's sigmoid; the slope is not negative."""
    n_anomalies = is_anomaly.sum()
    n_normal = len(is_anomaly) - n_anomalies
    target = np.where(
        is_anomaly, (n_anomalies + 1) / (n_anomalies + 2), 1 / (n_normal + 2)
    )
    (mean,), (deviation,) = mean_and_deviation(anomaly[:, None])
    # a slope over less than this would not be finite: such values count as equal
    deviation = max(deviation, 1e-290)
    standard = (anomaly - mean) / deviation

    def loss(parameters):
        value = parameters[0] * standard + parameters[1]
        error = expit(value) - target
        terms = np.logaddexp(0.0, value) - target * value
        return terms.mean(), np.array([(error * standard).mean(), error.mean()])

    start = [0.0, np.log((n_anomalies + 1) / (n_normal + 1))]
    found = minimize(
        loss,
        start,
        jac=True,
        method="L-BFGS-B",
        bounds=[(0, None), (None, None)],
        options={"ftol": 1e-15, "gtol": 1e-9},
    )
    slope, intercept = found.x
    return slope / deviation, intercept - slope * mean / deviation


@with_parameters
class ProbabilityCalibrator(DetectorAround):
    r"""Samples with a probability of being anomalous, from the scores of any detector.

    With the mean :math:`\mu` and the standard deviation :math:`\sigma` of the
    calibration samples' anomalies :math:`a = -s`, the probability is

    .. math::
        P_{linear}(a) &= (a - a_{min}) / (a_{max} - a_{min}) \\
        P_{gaussian}(a) &= \max(0, \mathrm{erf}((a - \mu) / (\sigma \sqrt 2))) \\
        P_{gamma}(a) &= \max(0, (F(a) - F(\mu)) / (1 - F(\mu)))

    where `F` is the distribution function of the gamma distribution with mean
    :math:`\mu` and deviation :math:`\sigma` [1]_. These need no labels: they make
    detectors' scores comparable, near 0 for inliers and near 1 for clear outliers, but
    do not know how frequent anomalies are. "isotonic" and "sigmoid" learn the frequency
    of anomalies among samples of that score from labels [2]_ [3]_. All of them rise
    with the anomaly. Scores, maps and threshold are those of `detector`.

    Read more in the :ref:`User Guide <calibration>`.

    Parameters
    ----------
    method : {"linear", "gaussian", "gamma", "isotonic", "sigmoid"}, default="gaussian"
        Above. "isotonic" is the step function that rises and is nearest to the labels,
        for about a thousand labels or more; "sigmoid" is
        :math:`1 / (1 + \exp(-\alpha a - \beta))`, for few.
    baseline : float, "minimum" or None, default=None
        The paper's regularisation :math:`\max(0, a - b)` before "linear", "gaussian" or
        "gamma", with the anomaly `b` of an inlier, such as 1 for `LOF`; "minimum" is
        the smallest of the calibration samples. None is none, but for "gamma", where
        anomalies may not be negative: there it is "minimum" if one is, else 0.
    cv : "auto", int, splitter, iterable or None, default="auto"
        Which scores are learned from. "auto" takes those from which the detector set
        its own threshold, as if it had not learned from the sample; where it has none
        of its own, those of copies fitted without a fifth of the samples. An int, a
        splitter or folds: each score comes from a copy fitted to the other folds, an
        int is that many blocks in the order of the rows. None takes the training
        scores.

    Attributes
    ----------
    detector_ : detector
        The detector, fitted on all samples.
    classes_ : ndarray of shape (2,)
        What the columns of `predict_proba` stand for: -1, anomaly, and 1, normal.
    curve_ : tuple
        What the method learned: the baseline or None, then the lowest and the highest
        anomaly, mean and deviation, steps and their probabilities, or slope and
        intercept.

    See Also
    --------
    ConformalDetector : p-values, valid without a model of the scores.
    ThresholdTuner : A threshold from labels.

    Notes
    -----
    Samples labelled -1 are left out of the unlabelled methods. With labels, samples of
    label 0 are left out, and there must be some of both kinds. Around a classifier
    `y_ood` marks the anomalies. Anomalies among the training samples are rarely scored
    as those to come; labelled samples that the detector has not seen (a frozen detector
    or `cv`) calibrate better.

    The paper's inversions are for scores that fall with the anomaly, which none does
    here. Constant scores have the deviation 1. Platt's sigmoid has his smoothed targets
    and a slope that is not negative. Probabilities are computed on the host.

    References
    ----------
    .. [1] H.-P. Kriegel, P. Kroger, E. Schubert, A. Zimek, "Interpreting and unifying
       outlier scores", SIAM International Conference on Data Mining, 2011, sections
       3 and 4.
    .. [2] B. Zadrozny and C. Elkan, "Transforming classifier scores into accurate
       multiclass probability estimates", ACM SIGKDD International Conference on
       Knowledge Discovery and Data Mining, 2002.
    .. [3] J. Platt, "Probabilistic outputs for support vector machines and comparisons
       to regularized likelihood methods", Advances in Large Margin Classifiers, 1999.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.calibration import ProbabilityCalibrator
    >>> from skad.neighbors import KNN
    >>> X = np.random.default_rng(0).normal(size=(200, 2))
    >>> detector = ProbabilityCalibrator(KNN()).fit(X)
    >>> detector.classes_
    array([-1,  1])
    >>> detector.predict_proba([[0.0, 0.0], [2.0, 2.0], [5.0, 5.0]]).round(2)
    array([[0.  , 1.  ],
           [0.98, 0.02],
           [1.  , 0.  ]])
    """

    method: str = "gaussian"
    baseline: float | str | None = None
    cv: Any = "auto"

    _parameter_constraints = {
        "method": [StrOptions({"linear", "gaussian", "gamma", *WITH_LABELS})],
        "baseline": [Real, StrOptions({"minimum"}), None],
        "cv": ["cv_object", StrOptions({"auto"})],
    }

    def _calibrate(self, X, y, params):
        n = n_rows(X)
        labelled = self.method in WITH_LABELS
        if labelled:
            labels = known_labels(self._head(), y, n, params)
            self._need_both(labels)
            use = labels != 0
        else:
            use = ~known_anomalies(self._head(), y, n, params)
        honest = self._fit_detector(X, y, params, self.cv)
        scores, rows = self._calibration_scores(X, y, params, self.cv, honest)
        anomaly = -np.asarray(scores, dtype=np.float64)
        if rows is not None:  # else of normal ones
            anomaly, rows = anomaly[use[rows]], rows[use[rows]]
        self.classes_ = np.array([-1, 1])
        if labelled:
            self._need_both(labels[rows])  # of what a splitter leaves
            self.curve_ = self._labelled_curve(anomaly, labels[rows] == -1)
        else:
            self.curve_ = self._unified_curve(anomaly)

    def _need_both(self, labels):
        n_normal, n_anomalies = ((labels == label).sum() for label in (1, -1))
        if not (n_normal and n_anomalies):
            raise ValueError(
                f"method={self.method!r} needs labels y of both kinds, 1 (normal) and "
                f"-1 (anomaly); y has {n_normal} and {n_anomalies}."
            )

    def _labelled_curve(self, anomaly, is_anomaly):
        if self.method == "sigmoid":
            return None, *fit_sigmoid(anomaly, is_anomaly)
        isotonic = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip")
        isotonic.fit(anomaly, is_anomaly.astype(np.float64))
        return None, isotonic.X_thresholds_, isotonic.y_thresholds_

    def _unified_curve(self, anomaly):
        if len(anomaly) == 0:
            raise ValueError("y marks all samples as anomalies; no normal one is left.")
        baseline = self.baseline
        if baseline is None and self.method == "gamma":
            baseline = "minimum" if anomaly.min() < 0 else 0.0
        if baseline == "minimum":
            baseline = anomaly.min()
        anomaly = regularized(anomaly, baseline)
        if self.method == "linear":
            return baseline, anomaly.min(), anomaly.max()
        (mean,), (deviation,) = mean_and_deviation(anomaly[:, None])
        return baseline, mean, deviation

    def _fit_offset(self, X, y, anomaly, **params):
        return own_offset(self.detector_)

    def _probability(self, anomaly):
        """Return the probability (n,) that samples are anomalies."""
        baseline, *learned = self.curve_
        anomaly = regularized(anomaly, baseline)
        if self.method == "isotonic":
            return np.interp(anomaly, *learned)
        if self.method == "sigmoid":
            slope, intercept = learned
            return expit(slope * anomaly + intercept)
        scaling = {
            "linear": linear_scaling,
            "gaussian": gaussian_scaling,
            "gamma": gamma_scaling,
        }
        return scaling[self.method](anomaly, *learned)

    def predict_proba(self, X, **params) -> Any:
        """Return the probabilities of the two classes in the order of `classes_`.

        Parameters
        ----------
        X : array-like, tensor, pictures or series
            The samples.
        params : dict
            Passed to the detector (`groups` of series).

        Returns
        -------
        probabilities : ndarray or tensor of shape (n_samples, 2), float64
            Of being an anomaly (-1), and of being normal (1); their sum is 1.
        """
        check_is_fitted(self)
        scores = self.score_samples(X, **params)
        anomaly = -to_numpy(scores).astype(np.float64)
        probability = self._probability(anomaly)
        both = np.stack([probability, 1 - probability], axis=1)
        return like(both, scores) if is_torch(scores) else both

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.required |= self.method in WITH_LABELS
        # what scikit-learn asks of whatever has predict_proba: two columns
        tags.classifier_tags = ClassifierTags(multi_class=False)
        return tags
