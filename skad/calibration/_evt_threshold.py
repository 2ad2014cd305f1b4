"""A threshold in the tail of the scores, by extreme value theory."""

from numbers import Real

from skad._parameters import with_parameters
from skad._sklearn import Interval, StrOptions
from skad.calibration._gpd_tail import MIN_PEAKS, TailOfStream
from skad.calibration._threshold import Threshold

# What level="auto" takes for the tail: a share, but no more scores than say enough. Of
# shares from a twentieth to a fifth the largest came nearest to small risks.
_SHARE, _MOST = 0.2, 1000

# Fewest scores that are fitted.
_FEWEST = 5


def tail_level(n):
    """Return the quantile over which the tail of `n` scores lies."""
    return max(0.0, 1 - max(MIN_PEAKS, min(_SHARE * n, _MOST)) / n)


@with_parameters
class EVTThreshold(Threshold):
    r"""Samples with an anomaly that normal samples exceed with a stated probability.

    The anomalies :math:`a_i = -s_i` of normal samples over a high level `t` are fitted
    with a generalised Pareto distribution (shape :math:`\gamma`, scale :math:`\sigma`),
    to which the tail of nearly any distribution comes close; the alarm begins over

    .. math:: z_q = t + \frac{\sigma}{\gamma}
        \left(\left(\frac{q n}{N_t}\right)^{-\gamma} - 1\right)

    with :math:`N_t` of `n` anomalies over `t` and the risk `q`, which may be far
    smaller than :math:`1 / n`. Scores and maps are those of `detector`.

    Read more in the :ref:`User Guide <calibration>`.

    Parameters
    ----------
    risk : float, default=0.001
        Probability `q` that a normal sample raises an alarm, less than the share of the
        samples in the tail.
    level : float or "auto", default="auto"
        Quantile of the anomalies over which the tail begins. "auto" puts a fifth of the
        samples in the tail, but at least ten and at most 1,000.

    Attributes
    ----------
    calibration_scores_ : ndarray of shape (n_scores,)
        The scores whose tail is fitted.
    level_ : float
        The level `t`.
    shape_ : float
        Shape of the tail; negative for a tail that ends.
    scale_ : float
        Scale of the tail.
    n_peaks_ : int
        Number of scores in the tail, :math:`N_t`.

    See Also
    --------
    SPOT : The same threshold, which then goes on with a stream of scores.
    ConformalDetector : Keeps its rate without a model, down to one in so many samples.

    Notes
    -----
    The likelihood is maximised over all roots of Grimshaw's equation. The farther
    `risk` lies below :math:`1 / n`, the more the model decides and the less the data:
    with 1,000 exponential, Gaussian or Pareto scores and a risk of 0.0001 the mean rate
    of false alarms was 2.3, 4.1 and 1.8 times the risk, where that of the empirical
    quantile was 9 to 10 times. A tail of fewer than five scores is refused, and one of
    fewer than fifty is a guess. Scores should be independent and free of anomalies;
    known ones, labelled -1, are left out.

    References
    ----------
    .. [1] J. Pickands, "Statistical inference using extreme order statistics", The
       Annals of Statistics 3(1), 1975.
    .. [2] A. Siffer, P.-A. Fouque, A. Termier, C. Largouet, "Anomaly Detection in
       Streams with Extreme Value Theory", KDD 2017, algorithm 1.
    .. [3] S. Grimshaw, "Computing Maximum Likelihood Estimates for the Generalized
       Pareto Distribution", Technometrics 35(2), 1993.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.calibration import EVTThreshold
    >>> from skad.density import Mahalanobis
    >>> X = np.random.default_rng(0).normal(size=(2000, 2))
    >>> detector = EVTThreshold(Mahalanobis(), risk=1e-4).fit(X)
    >>> print(f"{-detector.offset_:.1f}")  # the true quantile is 18.4
    16.2
    """

    risk: float = 1e-3
    level: float | str = "auto"

    _parameter_constraints = {
        "risk": [Interval(Real, 0, 1, closed="neither")],
        "level": [Interval(Real, 0, 1, closed="neither"), StrOptions({"auto"})],
    }

    def _threshold(self, scores):
        level = tail_level(len(scores)) if self.level == "auto" else self.level
        if self.risk + level >= 1:
            raise ValueError(
                f"risk={self.risk} must be less than {1 - level:.3g}, the share of the "
                f"{len(scores)} scores in the tail (level={self.level!r})."
            )
        tail = TailOfStream(-scores, level, self.risk, None, _FEWEST)
        self.level_, self.n_peaks_ = tail.level, tail.n_peaks
        self.shape_, self.scale_ = tail.shape, tail.scale
        return -tail.threshold
