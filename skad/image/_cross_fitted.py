"""Thresholds of pictures from copies that learned without some; features are kept."""

import copy
import warnings

import numpy as np
import torch

from skad._cross_fitting import folds


class CrossFittedMixin:
    """Copies of an `ImageDetector` that learn from the features of some pictures.

    ``_fit_members(training, pictures, random)`` sets what is learned from pictures,
    given by number, and ``_known(features)`` returns the anomaly of others.
    """

    def _cross_fitted(self, training, owners, random):
        """Return the anomaly (m,) of pictures by copies that learned without them.

        Parameters
        ----------
        training : TrainingPatches
            The features of all pictures.
        owners : ndarray of shape (n,)
            As `owners_of` returns them.
        random : RandomState
            What learning draws from.
        """
        member = copy.copy(self)
        vars(member).pop("_callback_fit_ctx", None)  # it reports nothing
        known, found = np.unique(owners), []
        try:
            for fold in folds(len(known)):
                held = np.isin(owners, known[fold])
                member._fit_members(training, np.flatnonzero(~held), random)
                found += [
                    member._known(part) for part in training.of(held.nonzero()[0])
                ]
        except ValueError as error:
            warnings.warn(
                f"{type(self).__name__} cannot be fitted without some of the "
                f"{len(known)} training pictures ({error}): its threshold comes from "
                "scores of pictures that it has learned from, and more than "
                f"false_alarm_rate={self.false_alarm_rate} of new normal ones will "
                "fall below it.",
                stacklevel=6,
            )
            return self._of_training(training, torch.as_tensor(owners), False)
        return torch.cat(found)
