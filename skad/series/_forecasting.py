"""Forecasts of time steps from those before, whatever makes them.

A detector writes `_fit_windows`, and `_window_anomaly`, `_window_map` and
`_window_inspect` of windows (b, l, c), which tell how wrong the forecasts of their last
`k` steps are: of shape (b, k) and (b, k, c). `_scored_steps()` returns `k`, and
`_context_steps()` how many steps a window has before these.
"""

from typing import Any

from skad._array import namespace
from skad._parameters import absent, with_parameters
from skad.embedding._windows import sliding
from skad.series._windowed import WindowedDetector


def forecast_errors(x, forecasts, n_steps):
    """Return the error vectors (b, n_steps, k, c) of the last steps of windows.

    Parameters
    ----------
    x : array or tensor of shape (b, l, c)
        The windows.
    forecasts : array or tensor of shape (b, l, k, c)
        At each step those of the next `k`; the last step's are not looked at.
    n_steps : int
        How many of the last steps; each needs `k` steps before it.
    """
    first, k = x.shape[1] - n_steps, forecasts.shape[2]
    made = [
        forecasts[:, first - ahead : x.shape[1] - ahead, ahead - 1]
        for ahead in range(1, k + 1)
    ]
    return x[:, first:, None] - namespace(x).stack(made, axis=2)


def forecast_pieces(x, size, scored, begin=0):
    """Return pieces (n, l, c) of windows, the last steps of which follow one another.

    The windows of all pieces together score `scored` steps each, from the last multiple
    of `scored` that is not after `begin` to the end of the series or shortly after.
    Before its first step the series is taken to have been constant. Pieces are views,
    but for what reaches beyond an end of the series.
    """
    n, context = x.shape[0], size - scored
    first, last = begin // scored, -(-n // scored)
    inner = min(max(-(-context // scored), first), last)
    outer = min(max(n // scored, inner), last)
    pieces = []
    for low, high in ((first, inner), (inner, outer), (outer, last)):
        if low == high:
            continue
        start, stop = low * scored - context, high * scored
        part = x[max(start, 0) : stop]
        before, after = max(-start, 0), max(stop - n, 0)
        if before or after:
            ends = x[:1], x[-1:]
            xp = namespace(x)
            left, right = (
                xp.broadcast_to(end, (count, x.shape[1]))
                for end, count in zip(ends, (before, after), strict=True)
            )
            part = xp.concat([left, part, right])
        pieces.append(sliding(part, size, scored))
    return pieces


@with_parameters
class ForecastDetector(WindowedDetector):
    """Base of forecasters; the module's docstring says what a method writes."""

    align: Any = absent()

    def _scored_steps(self):
        """Return how many of the last steps of a window its forecasts score."""
        return 1

    def _context_steps(self):
        """Return how many steps of a window come before those that are scored."""
        return self.window_size_ - self._scored_steps()

    def _streams(self):
        return True

    def _past_steps(self, n_seen):
        scored = self._scored_steps()
        before = -(-self._context_steps() // scored)  # windows that the context fills
        return n_seen - max(0, n_seen // scored - before) * scored

    def _forecast(self, function, x, begin=0):
        """Return what `function` says of the steps of `x` from `begin` on."""
        scored = self._scored_steps()
        pieces = forecast_pieces(x, self._context_steps() + scored, scored, begin)
        parts = [self._in_blocks(function, piece) for piece in pieces]
        if isinstance(parts[0], tuple):
            return tuple(
                self._of_steps_ahead(list(own), x, begin)
                for own in zip(*parts, strict=True)
            )
        return self._of_steps_ahead(parts, x, begin)

    def _of_steps_ahead(self, parts, x, begin):
        """Return what is known of the steps of `x` from `begin` on, in one array."""
        whole = namespace(x).concat(parts)
        whole = whole.reshape(-1, *whole.shape[2:])
        return whole[begin % self._scored_steps() :][: x.shape[0] - begin]

    def _anomaly_from(self, x, begin):
        return self._forecast(self._window_anomaly, x, begin)

    def _inspect(self, x):
        return self._forecast(self._window_inspect, x)

    def _map(self, x):
        return self._forecast(self._window_map, x)
