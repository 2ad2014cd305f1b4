"""How many deviations each channel is from its mean: what any detector has to beat."""

from skad._array import like, namespace, to_double, to_numpy
from skad._moments import deviations
from skad._parameters import with_parameters
from skad.series._base import SeriesDetector


@with_parameters
class ZScore(SeriesDetector):
    r"""Time steps far from the training mean, in deviations of each channel.

    With the mean :math:`\mu_i` and the deviation :math:`\sigma_i` of a channel over the
    training steps, a step has the anomaly

    .. math:: a(x) = \lVert z \rVert_2, \qquad z_i = \frac{|x_i - \mu_i|}{\sigma_i},

    the baseline of methods that look at windows: it knows no order. ``score_samples``
    is :math:`-a`. The map is :math:`z_i^2 / a`; it is never negative and sums to the
    anomaly. A channel that is constant in training counts as it is.

    Read more in the :ref:`User Guide <series>`.

    Attributes
    ----------
    mean_ : ndarray of shape (n_features_in_,)
        Means of the channels.
    scale_ : ndarray of shape (n_features_in_,)
        Deviations of the channels, 1 for constant ones.

    See Also
    --------
    skad.density.Mahalanobis : The same with the channels' covariance.
    SpectralResidual : Steps that stick out of their surroundings.

    Notes
    -----
    `fit` and scoring are linear in the steps and channels.

    ``contamination="auto"`` takes stretches of time that the moments are computed
    without. What is normal may change after training, and is flagged then: .14 of the
    normal steps of a server (SMD 1-7) after its first 3,000.

    References
    ----------
    .. [1] F. E. Grubbs, "Sample criteria for testing outlying observations", The Annals
       of Mathematical Statistics, 1950, section 1.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.series import ZScore
    >>> X = np.sin(np.arange(200) / 3)[:, None]
    >>> X[120] = 4
    >>> int(ZScore().fit(X).score_samples(X).argmin())
    120
    """

    _map_sums_to_score = True

    def _reach(self):
        return 0

    def _fit_series(self, series, labels):
        x = to_double(namespace(series[0]).concat(series))
        xp = namespace(x)
        mean = to_numpy(xp.mean(x, axis=0))
        variance = to_numpy(xp.mean((x - like(mean, x)) ** 2, axis=0))
        deviation = deviations(variance, mean, roundings=x.shape[0])
        self.mean_ = mean
        self.scale_ = deviation + (deviation == 0)

    def _squares(self, x):
        x = to_double(x)
        return ((x - like(self.mean_, x)) / like(self.scale_, x)) ** 2

    def _anomaly(self, x):
        xp = namespace(x)
        return xp.sqrt(xp.sum(self._squares(x), axis=1))

    def _map(self, x):
        squares = self._squares(x)
        xp = namespace(squares)
        total = xp.sqrt(xp.sum(squares, axis=1))[:, None]
        return squares / xp.where(total > 0, total, 1.0)
