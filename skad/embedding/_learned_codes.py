"""Transformers from pictures to the codes of a network that tells their views."""

from operator import attrgetter
from typing import Any, Self

from sklearn.utils.validation import check_is_fitted

from skad._parameters import with_parameters
from skad._sklearn import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    _fit_context,
)
from skad._training._contrastive import ContrastiveDetector, ContrastParameters
from skad._training._parameters import ShapeParameters, TrainingParameters


class OfCodes:
    """Turns a contrastive network into one of which nothing but the codes is asked."""

    def finish(self, batches, held=None):
        """Leave it as it is: no anomaly is scored."""

    def map(self, x):
        """Return the codes (b, d) of pictures."""
        return self.encoder(x)


class CodesTraining(ContrastiveDetector):
    """Trains a network, as a detector whose threshold nobody asks for."""

    _only_scores = True

    def _holds_out(self):
        return False


@with_parameters
class LearnedCodes(
    ClassNamePrefixFeaturesOutMixin,
    ContrastParameters,
    ShapeParameters,
    TrainingParameters,
    TransformerMixin,
    BaseEstimator,
):
    """Base of transformers whose network learns to tell views of pictures.

    A subclass names in `_training_class` the `CodesTraining` that has its parameters.

    Parameters
    ----------
    patience : int or None, default=None
        Epochs without a better loss on held-out pictures after which training stops and
        the best weights are taken. None trains all epochs.
    validation_fraction : float, default=0.2
        Share of the pictures that `patience` watches, and that are not trained on;
        without it all are.
    callbacks : list of skorch callbacks or None, default=None
        Are copied into every training.

    Attributes
    ----------
    net_ : torch.nn.Module
        The trained network, with its `encoder` and `projection`.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, where `X` has string names.
    """

    _without = ("n_held_out_",)
    _training_class = CodesTraining

    # all of it is the training's
    net_ = property(attrgetter("training_.net_"))
    history_ = property(attrgetter("training_.history_"))
    n_samples_seen_ = property(attrgetter("training_.n_samples_seen_"))
    device_ = property(attrgetter("training_.device_"))
    image_shape_ = property(attrgetter("training_.image_shape_"))
    n_features_in_ = property(attrgetter("training_.n_features_in_"))
    feature_names_in_ = property(attrgetter("training_.feature_names_in_"))

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None) -> Self:
        """Learn codes of pictures like these.

        Parameters
        ----------
        X : array-like, tensor or files of shape (n_samples, height, width[, channels])
            Training pictures; also rows, with `image_shape` or as pictures of one line.
        y : object
            Ignored.

        Returns
        -------
        self : object
            The fitted transformer.
        """
        training = getattr(self, "training_", None) if self.warm_start else None
        training = training or self._training_class()
        self.training_ = training.set_params(**self.get_params(deep=False)).fit(X)
        return self

    def transform(self, X) -> Any:
        """Return the codes of pictures.

        Parameters
        ----------
        X : array-like, tensor or files of shape (n_samples, height, width[, channels])
            Pictures, as `fit` takes them.

        Returns
        -------
        codes : ndarray or tensor of shape (n_samples, code_size)
            In the dtype of `X`, and in its library and on its device.
        """
        check_is_fitted(self)
        X = self.training_._validate(X, reset=False)
        return self.training_._in_blocks(self.training_._map, X, dtype=X.dtype)

    @property
    def _n_features_out(self):
        return self.code_size

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        tags.input_tags.sparse = True
        return tags
