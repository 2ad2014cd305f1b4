"""Whether the highest values of a map name the channels that caused an event."""

import numpy as np

from skad.metrics._labels import finite_scores, is_anomaly, undefined


def hit_rate_at(causes, maps, *, percent=100, per="event", pos_label=None):
    """Return the share of causing channels among the highest of the map (HitRate@P%).

    With `g` channels that caused an event, the `floor(percent / 100 * g)` highest
    channels of the map are looked at; the score of the event is the share of its `g`
    channels among them. Channels that tie at the last place count with the chance that
    a random order would put them in.

    Parameters
    ----------
    causes : array-like of shape (n_timesteps, n_channels)
        True, or -1 in labels of -1 and 1, where a channel causes an event. An event is
        a run of steps with the same causes.
    maps : array-like of shape (n_timesteps, n_channels)
        Higher = more anomalous, as ``detector.transform(X)`` returns it.
    percent : float, default=100
        `P`; the literature takes 100 and 150.
    per : {"event", "step"}, default="event"
        "event" ranks the channels by their maximum over an event and averages over
        events; "step" ranks them at each step of an event and averages over steps, as
        in [1]_.
    pos_label : object, default=None
        Label of a cause, where `causes` has not -1 and 1 or booleans.

    Returns
    -------
    score : float
        In [0, 1]; NaN without an event.

    References
    ----------
    .. [1] Y. Su, Y. Zhao, C. Niu, R. Liu, W. Sun, D. Pei, "Robust Anomaly Detection for
       Multivariate Time Series through Stochastic Recurrent Neural Network", KDD 2019,
       section 4.5.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.metrics import hit_rate_at
    >>> causes = np.zeros((5, 3), dtype=bool)
    >>> causes[2:4, :2] = True
    >>> maps = np.zeros((5, 3))
    >>> maps[2:4] = [[3.0, 1.0, 2.0], [3.0, 1.0, 0.0]]
    >>> hit_rate_at(causes, maps), hit_rate_at(causes, maps, percent=150)
    (0.5, 1.0)
    """
    if per not in ("event", "step"):
        raise ValueError(f"per={per!r} must be one of 'event', 'step'.")
    if percent <= 0:
        raise ValueError(f"percent={percent!r} must be positive.")
    causes = is_anomaly(causes, pos_label, name="causes")
    maps = finite_scores(maps, name="maps")
    if causes.ndim != 2 or causes.shape != maps.shape:
        raise ValueError(
            "causes and maps are one value per step and channel, got shapes "
            f"{causes.shape} and {maps.shape}."
        )
    if per == "event":
        causes, maps = _per_event(causes, maps)
    else:
        rows = causes.any(axis=1)
        causes, maps = causes[rows], maps[rows]
    if len(causes) == 0:
        return undefined("causes name no channel")
    return float(_hit_rates(causes, maps, percent).mean())


def _per_event(causes, maps):
    """Return the causes (n_events, c) and the maximum of the map over each event."""
    inside = causes.any(axis=1)
    changes = np.any(causes[1:] != causes[:-1], axis=1)
    starts = np.flatnonzero(inside & np.concatenate([[True], changes]))
    stops = np.flatnonzero(inside & np.concatenate([changes, [True]])) + 1
    peaks = [maps[a:b].max(axis=0) for a, b in zip(starts, stops, strict=True)]
    return causes[starts], np.array(peaks).reshape(-1, maps.shape[1])


def _hit_rates(causes, maps, percent):
    """Return the hit rate of each row, of shape (n,)."""
    n_causes = causes.sum(axis=1)
    # floor, where a product such as 1.1 * 10 falls short of a whole number by rounding
    looked = np.floor(percent * n_causes / 100 + 1e-9).astype(int)
    looked = np.minimum(looked, causes.shape[1])
    descending = -np.sort(-maps, axis=1)
    last = np.take_along_axis(descending, np.maximum(looked - 1, 0)[:, None], axis=1)
    above, tied = maps > last, maps == last
    chance = (looked - above.sum(axis=1)) / tied.sum(axis=1)
    hits = (above & causes).sum(axis=1) + chance * (tied & causes).sum(axis=1)
    return np.where(looked > 0, hits, 0.0) / n_causes
