"""The loop of streams: score what comes, then learn it."""

import numpy as np
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

from skad._array import namespace, slices


def stream_scores(detector, X, *, batch=1):
    """Return the score of each row of a stream by what was learned before it.

    Rows are scored and then learned, piece by piece: "prequential", or test, then
    train.

    Parameters
    ----------
    detector : detector
        One with `partial_fit`. It learns `X`. One that has learned nothing yet begins
        with the first piece, which it learns before it is scored.
    X : array or tensor of shape (n_samples, ...)
        The stream, in order of time.
    batch : int, default=1
        Rows of a piece. Rows of the same piece do not know of each other. Larger ones
        are faster, and lose nothing where what is known changes only now and then:
        `batch` divides the `window_size` of `skad.stream.HalfSpaceTrees`.

    Returns
    -------
    scores : ndarray or tensor of shape (n_samples,), float64
        Higher is more normal, as of ``score_samples``.

    Raises
    ------
    TypeError
        If the detector has no `partial_fit`.
    ValueError
        If `batch` is not a whole number of at least 1.

    See Also
    --------
    skad.calibration.SPOT : Alarms from such scores.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.stream import RSHash, stream_scores
    >>> X = np.random.default_rng(0).normal(size=(500, 2))
    >>> X[400] = 9
    >>> scores = stream_scores(RSHash(window_size=100, random_state=0), X, batch=50)
    >>> scores.argmin()
    np.int64(400)
    """
    if not hasattr(detector, "partial_fit"):
        raise TypeError(
            f"detector is a {type(detector).__name__}, which has no partial_fit: it "
            "cannot go on learning."
        )
    if not isinstance(batch, (int, np.integer)) or isinstance(batch, bool) or batch < 1:
        raise ValueError(f"batch={batch!r} must be a whole number of at least 1.")
    if not hasattr(X, "shape"):
        X = np.asarray(X)
    found = []
    for piece in slices(X.shape[0], int(batch)):
        rows = X[piece]
        known = bool(found) or _is_fitted(detector)
        if known:
            found.append(detector.score_samples(rows))
        detector.partial_fit(rows)
        if not known:
            found.append(detector.score_samples(rows))
    if not found:
        raise ValueError("X has no rows.")
    return namespace(found[0]).concat(found)


def _is_fitted(detector):
    try:
        check_is_fitted(detector)
    except NotFittedError:
        return False
    return True
