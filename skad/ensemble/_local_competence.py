"""Which members of an ensemble are competent around a row, without labels."""

from skad._array import blocks, device_of, like, namespace
from skad._moments import deviations

# Training rows that a local region has at least.
_LEAST_ROWS = 2


def voted(neighbors, votes):
    """Return the sorted neighbours and which of them make the local region.

    Parameters
    ----------
    neighbors : array of shape (b, t * k)
        Indices of the `k` nearest training rows in each of `t` subspaces.
    votes : int
        Subspaces in which a training row has to be near. Where that leaves less than
        two rows, fewer subspaces will do.

    Returns
    -------
    ordered : array of shape (b, t * k)
        Indices of training rows.
    inside : array of shape (b, t * k)
        True once for each training row in the region.
    """
    xp = namespace(neighbors)
    ordered = xp.sort(neighbors, axis=1)
    size = ordered.shape[1]
    inside = xp.zeros_like(ordered, dtype=xp.bool)
    first = xp.ones_like(inside)
    first[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    small = xp.ones_like(first[:, 0])
    for needed in range(votes, 0, -1):
        width = size - needed + 1
        repeated = ordered[:, needed - 1 :] == ordered[:, :width]
        inside[:, :width] |= first[:, :width] & repeated & small[:, None]
        small = xp.sum(xp.astype(inside, xp.int64), axis=1) < _LEAST_ROWS
        if not xp.any(small):
            break
    return ordered, inside


def correlations(scores, truth, inside):
    """Return Pearson's correlations (b, m) of scores and truth over local regions.

    Parameters
    ----------
    scores : array of shape (b, r, m)
        Scores of `m` members on training rows.
    truth : array of shape (b, r)
        What stands for the truth about these rows.
    inside : array of shape (b, r)
        Which of them count. Constant scores correlate with nothing.
    """
    xp = namespace(scores)
    weight = xp.astype(inside, scores.dtype)
    weight = (weight / xp.sum(weight, axis=1)[:, None])[:, :, None]  # (b, r, 1)
    both = []
    for values in (scores, truth[:, :, None]):
        mean = xp.sum(weight * values, axis=1)  # (b, m)
        centred = values - mean[:, None, :]
        variance = xp.sum(weight * centred**2, axis=1)
        both.append((centred, deviations(variance, mean)))
    (centred, deviation), (truth, spread) = both
    product = deviation * spread
    covariance = xp.sum(weight * centred * truth, axis=1)
    return xp.where(product > 0, covariance / xp.where(product > 0, product, 1.0), 0.0)


class LocalCompetence:
    """Weights members by how well they know the training rows around a row.

    Parameters
    ----------
    searches : list of (ndarray, NeighborSearch)
        The features of each subspace, and the training rows in it.
    scores : array of shape (n, m)
        Standardised anomalies of the training rows.
    truth : array of shape (n,)
        Pseudo ground truth of the training rows.
    n_neighbors, n_bins
        As in `ScoreEnsemble`.
    """

    def __init__(self, searches, scores, truth, n_neighbors, n_bins):
        self.searches, self.scores, self.truth = searches, scores, truth
        self.n_neighbors, self.n_bins = n_neighbors, n_bins

    def weights(self, X):
        """Return the weights (n, m) of the members for each row; they sum to 1."""
        xp = namespace(X)
        elements = self.n_neighbors * len(self.searches) * (self.scores.shape[1] + 3)
        return xp.concat(
            [
                self._block_weights(X[rows])
                for rows in blocks(X.shape[0], 4 * elements, device_of(X))
            ]
        )

    def _block_weights(self, X):
        xp = namespace(X)
        found = [
            search.query(X[:, like(features, X, dtype="keep")], self.n_neighbors)[1]
            for features, search in self.searches
        ]
        rows, inside = voted(xp.concat(found, axis=1), len(found) // 2 + 1)
        scores = like(self.scores, X, dtype="keep")[rows]  # (b, r, m)
        truth = like(self.truth, X, dtype="keep")[rows]
        return self._from_correlations(correlations(scores, truth, inside))

    def _from_correlations(self, competence):
        """Return weights (b, m) from correlations (b, m)."""
        xp = namespace(competence)
        if self.n_bins is None:
            weight = xp.clip(competence, 0.0, None)
            none = xp.sum(weight, axis=1) <= 0
            weight = xp.where(none[:, None], 1.0, weight)
        else:
            best = xp.max(competence, axis=1)[:, None]
            width = (best - xp.min(competence, axis=1)[:, None]) / self.n_bins
            # rounding must not part members that are equally competent
            near = competence >= best - width - 1e-9
            weight = xp.astype(near, competence.dtype)
        return weight / xp.sum(weight, axis=1)[:, None]
