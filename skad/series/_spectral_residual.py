"""Spectral residual: what the spectrum of a series does not explain."""

from numbers import Integral

from skad._array import blocks, device_of, namespace, to_double
from skad._parameters import with_parameters
from skad._sklearn import Interval, StrOptions
from skad.embedding._windows import sliding
from skad.series._base import SeriesDetector

# Amplitudes below this share of the largest are rounding, not signal.
_ROUNDING = 1e-12


def trailing_mean(values, size):
    """Return the mean of each value and up to `size - 1` before it, last axis."""
    xp = namespace(values)
    n = values.shape[-1]
    total = xp.cumulative_sum(values, axis=-1, include_initial=True)
    last = xp.arange(1, n + 1, device=device_of(values))
    first = xp.clip(last - size, 0, n)
    count = xp.astype(last - first, values.dtype)
    return (total[..., 1:] - xp.take(total, first, axis=-1)) / count


def predicted_step(series, n_slopes):
    """Return the step (..., 1) that is expected after the last but one of (..., t).

    With the slopes from the last but one, `p`, to the `m` steps before it, it is
    x[p - m + 1] plus the sum of the slopes. The last step has no say: it may be the
    anomaly that the extension is to bring out.
    """
    t = series.shape[-1]
    if t < 3:
        return series[..., -1:]
    m = min(n_slopes, t - 2)
    last = series[..., t - 2 : t - 1]
    prediction = series[..., t - 1 - m : t - m]  # x[p - m + 1]
    for gap in range(1, m + 1):
        prediction = prediction + (last - series[..., t - 2 - gap : t - 1 - gap]) / gap
    return prediction


def saliency(series, magnitude_window=3, n_extended=5, n_slopes=5):
    """Return the saliency map of series: the amplitudes of their spectral residual.

    Parameters
    ----------
    series : array or tensor of shape (..., t)
        One channel each.
    magnitude_window : int
        Values that the log spectrum is averaged over.
    n_extended, n_slopes : int
        Predicted steps that are added to the end, and slopes that predict them.

    Returns
    -------
    saliency : array or tensor of shape (..., t + n_extended)
        Whatever the scale of the series; its mean square is that of the residual
        amplitudes over ``t + n_extended``.
    """
    xp = namespace(series)
    step = predicted_step(series, n_slopes)
    extended = xp.concat([series] + [step] * n_extended, axis=-1)
    spectrum = xp.fft.fft(extended, axis=-1)
    amplitude = xp.abs(spectrum)
    largest = xp.max(amplitude, axis=-1, keepdims=True)
    signal = amplitude > _ROUNDING * largest
    amplitude = xp.where(signal, amplitude, 1.0)
    logarithm = xp.log(amplitude)  # 0 where there is nothing
    residual = xp.exp(logarithm - trailing_mean(logarithm, magnitude_window))
    spectrum = xp.where(signal, spectrum * (residual / amplitude), 0.0)
    return xp.abs(xp.fft.ifft(spectrum, axis=-1))


@with_parameters
class SpectralResidual(SeriesDetector):
    r"""Time steps that the spectrum of the series does not explain.

    Periods and trends are peaks of the spectrum's amplitudes :math:`A`. What of their
    logarithm is above its mean over `q` frequencies, the spectral residual, is brought
    back to time with the phases :math:`P`:

    .. math:: R = \log A - \overline{\log A}^{\,q}, \qquad
        S = \left| F^{-1}(\exp(R + i P)) \right|,

    the saliency map, of a series that is extended by a few predicted steps so that its
    end does not stand out. A step's anomaly is the sum over the channels of
    :math:`\sqrt{n} \, S(t)` (`n` the steps of the extended series), or, with
    ``measure="relative"``, of :math:`|S(t) - \bar S^z(t)| / \bar S^z(t)` with the mean
    over the last `z` steps. ``score_samples`` is :math:`-a`; the map has the channels'
    terms and sums to the anomaly.

    Read more in the :ref:`User Guide <series>`.

    Parameters
    ----------
    measure : {"saliency", "relative"}, default="saliency"
        The saliency itself, or how far it is from its recent mean, which is the paper's
        decision.
    window_size : int or None, default=None
        None transforms a series as a whole. With an int each step is scored as the last
        of that many, and the first steps as the last of all so far: no score depends on
        later steps, and `score_stream` goes on where it stopped.
    magnitude_window : int, default=3
        Frequencies `q` of the mean of the log spectrum, the present and those before.
    score_window : int, default=40
        Steps `z` of the mean of the saliency, the present and those before.
    n_extended : int, default=5
        Predicted steps at the end.
    n_slopes : int, default=5
        Slopes that predict them: from the last step but one to those before it.

    See Also
    --------
    MatrixProfile : Finds patterns that are new, not only steps.

    Notes
    -----
    Only the threshold is learned; the spectrum is that of the series being scored. It
    takes O(n log n), with `window_size` `w` O(n w log w). The scores do not change when
    a channel is scaled.

    `S` is that of the authors' code [2]_, which has trailing means and predicts from
    the last but one step, where the paper has centred means and the last step; only
    what counts as no signal is relative to the largest amplitude here, so that rounding
    does not. The code's score is a tenth of "relative", at most 1; the paper has no
    absolute value there. Other libraries differ in what they average: a centred mean of
    the log spectrum (Merlion), none of the predicted steps (alibi-detect), the
    saliency itself with the spectrum padded (TSB-AD). On labelled series the saliency
    itself ranked better than "relative" by far, which is why it is the default.

    ``contamination="auto"`` takes the training steps as they are, of which nothing is
    learned.

    References
    ----------
    .. [1] H. Ren et al., "Time-series anomaly detection service at Microsoft", KDD,
       2019, equations (1) to (8).
    .. [2] Microsoft, "anomalydetector", https://github.com/microsoft/anomalydetector.
    .. [3] X. Hou, L. Zhang, "Saliency detection: a spectral residual approach", CVPR,
       2007.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.series import SpectralResidual
    >>> X = np.sin(np.arange(200) / 3)[:, None]
    >>> X[120] += 1.0
    >>> detector = SpectralResidual(contamination=0.005).fit(X)
    >>> np.flatnonzero(detector.predict(X) == -1)
    array([120])
    """

    measure: str = "saliency"
    window_size: int | None = None
    magnitude_window: int = 3
    score_window: int = 40
    n_extended: int = 5
    n_slopes: int = 5

    _honesty = "nothing learned"
    _map_sums_to_score = True
    _parameter_constraints = {
        "measure": [StrOptions({"saliency", "relative"})],
        "window_size": [Interval(Integral, 3, None, closed="left"), None],
        "magnitude_window": [Interval(Integral, 1, None, closed="left")],
        "score_window": [Interval(Integral, 1, None, closed="left")],
        "n_extended": [Interval(Integral, 0, None, closed="left")],
        "n_slopes": [Interval(Integral, 1, None, closed="left")],
    }

    def _fit_series(self, series, labels):
        pass

    def _honest_anomaly(self, X, y, anomaly, groups=None):
        return self._seen_anomaly(X, anomaly)

    def _streams(self):
        return self.window_size is not None

    def _past_steps(self, n_seen):
        return min(n_seen, self.window_size - 1)

    def _measured(self, series):
        """Return the terms (..., t) of series (..., t)."""
        xp = namespace(series)
        salient = saliency(
            series, self.magnitude_window, self.n_extended, self.n_slopes
        )
        if self.measure == "relative":
            mean = trailing_mean(salient, self.score_window)
            known = mean > 0
            gap = xp.abs(salient - mean) / xp.where(known, mean, 1.0)
            salient = xp.where(known, gap, 0.0)
        else:
            salient = salient * salient.shape[-1] ** 0.5
        return salient[..., : series.shape[-1]]

    def _terms(self, x, begin=0):
        """Return the map (t - begin, c) of the steps from `begin` on."""
        xp = namespace(x)
        if self.window_size is None:
            return self._measured(x.T).T[begin:]
        parts = [
            self._measured(x[: i + 1].T)[None, :, -1]
            for i in range(begin, min(self.window_size - 1, x.shape[0]))
        ]
        first = max(0, begin - self.window_size + 1)
        if x.shape[0] - first >= self.window_size:
            windows = sliding(x[first:], self.window_size)  # (b, l, c)
            size = 8 * x.shape[1] * (self.window_size + self.n_extended)
            for rows in blocks(windows.shape[0], size, device_of(x)):
                block = xp.permute_dims(windows[rows], (0, 2, 1))
                parts.append(self._measured(block)[:, :, -1])
        return xp.concat(parts)

    def _map(self, x):
        return self._terms(to_double(x))

    def _anomaly_from(self, x, begin):
        return namespace(x).sum(self._terms(to_double(x), begin), axis=1)
