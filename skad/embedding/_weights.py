"""Files of weights: read, compared with what a network expects, and put in."""

import os
import pathlib
import pickle
from collections.abc import Mapping

import numpy as np
import torch

from skad._array import is_torch, to_numpy
from skad._paths import as_path

# Names that an error lists of each fault.
_SHOWN = 5
# Where checkpoints of trainings have the state dict of the network.
_NESTED = ("state_dict", "model_state_dict", "model")
# Batches that a batch norm has seen, which is of no use to a frozen network.
_COUNTER = "num_batches_tracked"


def read_arrays(path):
    """Return the arrays of a .npz, .safetensors or .pth file: a dict of name to array.

    Pickles (.pth, .pt, .bin) are read with ``weights_only=True``; a checkpoint that
    keeps its arrays under "state_dict", "model_state_dict" or "model" is looked into.
    """
    path = as_path(path, "weights").expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"There is no file of weights at {str(path)!r}.")
    if path.suffix not in (".npz", ".safetensors", ".pth", ".pt", ".bin"):
        raise ValueError(
            f"weights={str(path)!r} must end in .pth, .pt, .bin, .safetensors or .npz."
        )
    try:
        return as_arrays(_state(path))
    # a broken file raises whatever its reader stumbles over
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        if isinstance(error, pickle.UnpicklingError):
            reason = "it is damaged, or holds more than arrays, such as a whole module"
        raise ValueError(
            f"weights={str(path)!r} cannot be read: {reason}. What is needed is what "
            "torch.save(module.state_dict(), path) writes."
        ) from error


def _state(path):
    """Return what a file holds, read without running code of it."""
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    return torch.load(path, map_location="cpu", weights_only=True)


def as_arrays(state):
    """Return a state dict as a dict of name to NumPy array."""
    if not isinstance(state, Mapping):
        raise ValueError(f"it is a {type(state).__name__}, and no state dict")
    state = next((state[name] for name in _NESTED if name in state), state)
    arrays = {}
    for name, value in state.items():
        if not hasattr(value, "shape"):
            raise ValueError(f"{name!r} in it is a {type(value).__name__}, no array")
        if is_torch(value) and value.dtype in (torch.bfloat16, torch.float16):
            value = value.float()
        arrays[name.removeprefix("module.")] = to_numpy(value)
    return arrays


def load_arrays(module, arrays, source, ignore=lambda name: False, of="backbone"):
    """Put `arrays` into `module`, in place, or raise one error about all that differs.

    `ignore` tells which further names of the file are no fault, `of` what the module
    is to the user.
    """
    expected = {
        name: tuple(value.shape)
        for name, value in module.state_dict().items()
        if not name.endswith(_COUNTER)
    }
    arrays = {n: value for n, value in arrays.items() if not n.endswith(_COUNTER)}
    given = {name: value for name, value in arrays.items() if name in expected}
    faults = {
        "missing": [name for name in expected if name not in arrays],
        "unexpected": [
            name for name in arrays if name not in expected and not ignore(name)
        ],
        "of another shape": [
            f"{name} {value.shape} instead of {expected[name]}"
            for name, value in given.items()
            if tuple(value.shape) != expected[name]
        ],
    }
    if any(faults.values()):
        raise ValueError(
            f"{'weights' if of == 'backbone' else of}={source} do not fit the {of}: "
            + "; ".join(
                f"{len(names)} arrays {fault}: {', '.join(names[:_SHOWN])}"
                + (", ..." if len(names) > _SHOWN else "")
                for fault, names in faults.items()
                if names
            )
            + "."
        )
    state = {name: torch.tensor(value) for name, value in given.items()}
    module.load_state_dict(state, strict=False, assign=True)


def is_random(weights):
    """Tell whether untrained weights are asked for."""
    return isinstance(weights, str) and weights == "random"


def arrays_of(weights):
    """Return the arrays of a file or of a state dict, and what to call their source."""
    if isinstance(weights, Mapping):
        return as_arrays(weights), "a state dict"
    return read_arrays(weights), repr(os.fspath(weights))


def cached(pattern):
    """Return a file that torch.hub has downloaded before, or None."""
    folder = pathlib.Path(torch.hub.get_dir()) / "checkpoints"
    return next(iter(sorted(folder.glob(pattern))), None)


def no_weights(name, kind="the path of a .pth, .safetensors or .npz file"):
    """Return what to say where a backbone's weights are not on the machine."""
    return (
        f"backbone={name!r} has no weights on this machine, and nothing is downloaded. "
        f"Pass as weights {kind}, or weights='random' for an untrained network, or "
        "backbone='gabor', which needs none."
    )


def seeded(build):
    """Call `build` with torch's generators forked and seeded: equal random weights."""
    from skad._training import reproducible, seed_generators

    with reproducible("cpu"):
        seed_generators(0, "cpu")
        return build()
