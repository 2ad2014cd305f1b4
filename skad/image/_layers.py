"""The layers of an embedding apart from each other, at the grid of the first."""

from skad.embedding._taps import join_maps


class LayersMixin:
    """Features whose layers can be told apart, of a detector with `embedding_`.

    A fit sets `_widths_` to None, or to () where layers stay joined, before the first
    features are made.
    """

    _widths_ = ()  # joined, as in files of 0.1

    def _measured(self, x):
        """Return the features (b, gh, gw, d); see how many are of which layer."""
        embedding = self.embedding_
        maps = embedding.feature_maps(x)
        if self._widths_ is None:
            self._widths_ = tuple(layer.shape[1] for layer in maps)
        return join_maps(maps, embedding.neighborhood, embedding.interpolation)

    def _layers(self, features):
        """Return the features (..., d_l) of each layer, or of all together."""
        return features.split(self._widths_, -1) if self._widths_ else (features,)
