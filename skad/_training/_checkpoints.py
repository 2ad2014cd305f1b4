"""The file that a training goes on from: what it belongs to, and how it is read."""

import os

import joblib
import torch
from numpy.random import RandomState

from skad._array import is_torch, to_numpy
from skad._paths import as_path

# Parameters that may differ between the fits that write a checkpoint and go on from it.
_ASIDE = {"checkpoint", "callbacks", "device", "on_interrupt", "compile"}


class Checkpoint:
    """The file of one detector's fit to one set of data.

    Parameters
    ----------
    detector : TorchDetector
        Names the folder.
    X, labels : object
        The training data.
    """

    def __init__(self, detector, X, labels):
        if isinstance(detector.random_state, RandomState):
            raise ValueError(
                "random_state is a RandomState, which other draws move on, so that a "
                f"fit could not go on from checkpoint={str(detector.checkpoint)!r}: "
                "pass an int such as random_state=0, or None."
            )
        self.given = str(detector.checkpoint)
        folder = as_path(detector.checkpoint, "checkpoint")
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except FileExistsError:
            raise ValueError(
                f"checkpoint={self.given!r} is a file, and a folder is needed."
            ) from None
        self.name = type(detector).__name__
        self.file = folder / f"{self.name}.pt"
        aside = _ASIDE | set(detector._epoch_parameters)  # a fit may take more of them
        parameters = {
            name: _as_data(value)
            for name, value in detector.get_params().items()
            if name not in aside
        }
        data = to_numpy(X) if is_torch(X) else X  # pictures in files stay there
        labels = None if labels is None else to_numpy(labels)
        self.fingerprint = joblib.hash((self.name, parameters, data, labels))

    def read(self, device):
        """Return what the file holds, None where there is no file."""
        if not self.file.exists():
            return None
        with self.file.open("rb") as opened:
            try:
                saved = torch.load(opened, map_location=device, weights_only=True)
                fingerprint = saved["fingerprint"]
            except Exception:  # of torch, pickle or zip: none of them knows what to do
                raise ValueError(
                    f"checkpoint={self.given!r}: {self.file.name} in it is broken, or "
                    "no checkpoint of skad. Pass another folder, or remove the file to "
                    "start anew."
                ) from None
        if fingerprint != self.fingerprint:
            raise ValueError(
                f"checkpoint={self.given!r} holds the training of a {self.name} with "
                "other parameters or other data. Pass another folder, or remove the "
                "file to start anew."
            )
        return saved

    def write(self, state):
        """Write the state of a training, whole or not at all."""
        partial_file = self.file.with_suffix(".partial")
        torch.save({"fingerprint": self.fingerprint, **state}, partial_file)
        os.replace(partial_file, self.file)


def _as_data(value):
    """Return what identifies a parameter: of a module its structure and its weights."""
    if isinstance(value, torch.nn.Module):
        arrays = [(name, to_numpy(one)) for name, one in value.state_dict().items()]
        return repr(value), arrays
    return value
