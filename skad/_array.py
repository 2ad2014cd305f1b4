"""Where arrays live: NumPy or torch, which device, and blocks of bounded size.

NumPy is the default and needs no torch; torch is imported only for tensors that the
user passes or for a device that the user asks for.
"""

import copy
import os
import shutil
import sys

import numpy as np
from scipy.sparse import issparse

from skad._sklearn import torch_namespace

# Temporaries of one block, in elements: 8 MB of float64, which stays near the cache.
_BLOCK_ELEMENTS = 2**20

# The same on a GPU, where only large blocks keep it busy: 512 MB of float64.
_GPU_BLOCK_ELEMENTS = 2**26

# Values that a row is long with.
_WIDTH = 512

# Products of rows by rows by features from which a GPU repays the trip (about a second
# of one CPU core), and below which `device="auto"` does not even import torch.
_GPU_WORK = 10**10


def _compute_alone():
    """Give torch one thread in a process that was forked after torch has computed.

    The threads of its OpenMP do not outlive a fork, and the child would wait for them
    for ever in its first parallel loop. The parent keeps its own.
    """
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(1)


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=_compute_alone)


def is_torch(array):
    """Tell whether `array` is a torch tensor, without importing torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(array, torch.Tensor)


def namespace(array):
    """Return the array API namespace of `array`: NumPy's or torch's."""
    return torch_namespace() if is_torch(array) else np


def to_numpy(array):
    """Return `array` as a NumPy array on the host."""
    return array.detach().cpu().numpy() if is_torch(array) else np.asarray(array)


def like(array, reference, dtype=None):
    """Return `array` in the library, on the device and with the dtype of `reference`.

    `dtype="keep"` leaves the dtype alone (indices).
    """
    if is_torch(reference):
        import torch

        dtype = None if dtype == "keep" else reference.dtype
        return torch.as_tensor(array, dtype=dtype, device=reference.device)
    dtype = None if dtype == "keep" else reference.dtype
    return np.asarray(to_numpy(array), dtype=dtype)


def by_columns(X, *, copy=False):
    """Return the columns of `X` (n, d) as rows (d, n), each together in memory.

    With `copy` an array shares no memory with `X`.
    """
    if is_torch(X):
        return X.T.contiguous()
    return np.array(X.T, order="C") if copy else np.ascontiguousarray(X.T)


def row_sums(X):
    """Return the sums (n,) of the rows of `X` (n, d)."""
    if is_torch(X):
        return namespace(X).sum(X, axis=1)
    X = np.ascontiguousarray(X)  # in another order, a row alone has another sum
    if X.shape[1] > 128:
        return np.sum(X, axis=1)
    # as exact: up to so many NumPy sums one by one too, in up to four times the time
    return np.einsum("ij->i", X)


def over_rows(reduce, X):
    """Return what `reduce`, such as ``np.add.reduce``, makes of each column (d,).

    Rows of few features lie beside one another meanwhile: long ones take a fifth to a
    tenth of the time.
    """
    n, d = X.shape
    beside = max(1, min(n, _WIDTH // d))
    whole = n - n % beside
    wide = reduce(X[:whole].reshape(-1, beside * d))
    return reduce(np.concatenate([wide.reshape(-1, d), X[whole:]]))


def column_sums(X):
    """Return the sums (d,) of the columns of `X` (n, d)."""
    if is_torch(X) or not X.flags.c_contiguous:
        return namespace(X).sum(X, axis=0)
    return over_rows(np.add.reduce, X)


def places_of(mask):
    """Return the rows and the columns in which a `mask` (n, d) is true."""
    if is_torch(mask):
        return namespace(mask).nonzero(mask)
    # a seventh of the time of looking for pairs of indices
    return np.divmod(np.flatnonzero(mask), mask.shape[1])


def on_device(array, device):
    """Return `array` as it is for `device="cpu"`, else as a tensor on `device`.

    What has a method `to` (tensors, pictures that are read block by block) is asked.
    """
    if hasattr(array, "to"):
        return array.to(device)
    if str(device) == "cpu":
        return array
    import torch

    dtype = torch.float32 if str(device).startswith("mps") else None
    return torch.as_tensor(array, dtype=dtype, device=device)


def on_host(value):
    """Return a value, or what a container or a network holds, moved to the host."""
    if is_torch(value):
        return value.cpu()
    if type(value) in (list, tuple):
        return type(value)(on_host(item) for item in value)
    if type(value) is dict:
        return {key: on_host(item) for key, item in value.items()}
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(value, torch.nn.Module):
        tensors = [*value.parameters(), *value.buffers()]
        if any(tensor.device.type != "cpu" for tensor in tensors):
            return copy.deepcopy(value).cpu()  # the detector's own stays where it is
    return value


def to_double(array):
    """Return `array` in float64, on its own device where that has float64."""
    if not is_torch(array):
        return array.astype(np.float64, copy=False)
    return (array.cpu() if array.device.type == "mps" else array).double()


def resolve_device(device, X, work):
    """Return the name of the device that computes on `X`.

    Parameters
    ----------
    device : str
        "auto" is a tensor's own device; for NumPy input the first CUDA device where
        there is one and `work` repays the trip, else "cpu". Any other value is
        torch's name of a device.
    X : array or tensor
        The training data.
    work : float
        Multiplications that the fit needs.
    """
    if device == "auto":
        if is_torch(X):
            return str(X.device)
        if work < _GPU_WORK or issparse(X) or not _may_have_gpu():
            return "cpu"
        import torch

        return "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu":
        return "cpu"
    import torch

    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(
            f"device={device!r} cannot be used here: {str(error).splitlines()[0]}. "
            "Pass 'auto', 'cpu' or a device that torch sees."
        ) from error
    return device


def _may_have_gpu():
    """Tell whether to ask torch for a GPU: to import it costs seconds and 200 MB."""
    drivers = "/dev/nvidiactl", "/dev/nvidia0", "/dev/kfd", "/dev/dxg"
    return (
        "torch" in sys.modules
        or shutil.which("nvidia-smi") is not None
        or any(os.path.exists(path) for path in drivers)
    )


def blocks(n_rows, row_elements=1, device="cpu"):
    """Yield slices over `n_rows` whose temporaries stay bounded on `device`."""
    return slices(n_rows, block_rows(row_elements, device))


def slices(n_rows, step):
    """Yield slices of `step` rows, the last one shorter, over `n_rows`."""
    for start in range(0, n_rows, step):
        yield slice(start, min(start + step, n_rows))


def n_blocks(n_rows, row_elements=1, device="cpu"):
    """Return how many slices `blocks` yields."""
    return -(-n_rows // block_rows(row_elements, device))


def block_rows(row_elements, device="cpu"):
    """Return how many rows of `row_elements` temporaries are computed together."""
    elements = _BLOCK_ELEMENTS if str(device) == "cpu" else _GPU_BLOCK_ELEMENTS
    return max(1, elements // max(1, row_elements))


def device_of(array):
    """Return the device of `array`; "cpu" for NumPy."""
    return array.device if is_torch(array) else "cpu"


def over_blocks(function, X, parts, device, dtype=None):
    """Return what `function` makes of blocks of rows, put together where `X` lives.

    Parameters
    ----------
    function : callable
        From a block on `device` to one array (b, ...) or a tuple of them.
    X : array or tensor of shape (n, ...)
        The rows.
    parts : iterable of slices or indices
        The blocks, which cover all rows.
    device : str or torch.device
        Where blocks are computed.
    dtype : dtype or None
        Of the only or last array; None, and all others, are float64, float32 on MPS.
    """
    xp = namespace(X)
    on_mps = is_torch(X) and X.device.type == "mps"
    exact = xp.float32 if on_mps else xp.float64
    results = None
    for rows in parts:
        found = function(on_device(X[rows], device))
        one = not isinstance(found, tuple)
        found = [found] if one else found
        dtypes = [*[exact] * (len(found) - 1), dtype or exact]
        found = [
            xp.astype(like(part, X, dtype="keep"), own)
            for part, own in zip(found, dtypes, strict=True)
        ]
        if results is None:
            make = X.new_empty if is_torch(X) else np.empty
            results = [
                make((X.shape[0], *part.shape[1:]), dtype=own)
                for part, own in zip(found, dtypes, strict=True)
            ]
        for whole, part in zip(results, found, strict=True):
            whole[rows] = part
    return results[0] if one else tuple(results)
