"""One file: a safetensors file, whose metadata hold the structure as JSON.

The metadata have one entry, "skad", with the version of the format, the versions of the
libraries, the structure, and a SHA-256 over all bytes of the file (with zeros where
the sum itself stands).
"""

import hashlib
import json
import math
import os
import pathlib
import re
import struct
import uuid
import warnings

import numpy as np
import scipy
import sklearn
from sklearn.base import BaseEstimator

from skad import __version__
from skad._array import resolve_device
from skad._needed import need
from skad._paths import as_path
from skad.embedding._module_tail import ModuleTail
from skad.persistence._decode import Decoder
from skad.persistence._encode import Encoder
from skad.persistence._faults import CorruptFileError
from skad.persistence._fits import allowance, check, text_bytes

FORMAT = 1
# A structure is a few kilobytes; what has thousands of small parts has megabytes.
_LARGEST_HEADER = 10**8
_DIGEST = re.compile(rb'\\"sha256\\":\\"([0-9a-f]{64})\\"')
_ZEROS = "0" * 64
_INTEGERS = (("I", "i", (1, 2, 4, 8)), ("U", "u", (1, 2, 4, 8)))
# By their names in safetensors.
_DTYPES = {"BOOL": np.dtype(bool)} | {
    f"{letter}{8 * size}": np.dtype(f"<{kind}{size}")
    for letter, kind, sizes in (("F", "f", (2, 4, 8)), *_INTEGERS)
    for size in sizes
}
# No array is longer in a direction in which it has nothing.
_LONGEST_OF_NOTHING = 10**7


def save(detector, path, *, trusted=()):
    """Write a detector to a file that can be loaded without running anything in it.

    The file is a safetensors file: arrays and tensors as such, everything else as JSON
    in its metadata, with versions and a SHA-256 over all of it. It appears whole or not
    at all: it is written beside `path` and then takes its name.

    Parameters
    ----------
    detector : estimator
        A detector, fitted or not; or a pipeline of scikit-learn's scalers and one.
    path : str or path
        The file; by habit with the suffix ".skad". Is replaced if it exists; of a link,
        the file that it leads to.
    trusted : sequence of type, default=()
        Classes of your own that the detector holds (a backbone, a classifier), which
        `load` then has to be given, too.

    Raises
    ------
    ValueError
        Where the detector holds what cannot be written without pickle: functions,
        callbacks, classes of your own, graphs of pynndescent. Names where. Also where a
        parameter has a value that `fit` would refuse, and where `path` is a folder or
        anything else that is no file.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> import numpy as np
    >>> import skad
    >>> X = np.random.default_rng(0).normal(size=(100, 3))
    >>> detector = skad.KNN().fit(X)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "part-17.skad")
    ...     skad.save(detector, path)
    ...     loaded = skad.load(path)
    >>> bool((loaded.score_samples(X) == detector.score_samples(X)).all())
    True
    """
    write(detector, path, trusted)


def write(detector, path, trusted=(), notes=None):
    """Write a detector as `save` does, with notes: plain JSON that travels with it."""
    if not isinstance(detector, BaseEstimator):
        raise ValueError(
            f"detector={detector!r} is no estimator: pass a detector of skad."
        )
    # a link stays, and leads to the file
    path = pathlib.Path(os.path.realpath(as_path(path)))
    if path.exists() and not path.is_file():
        what = "a folder" if path.is_dir() else "no file"
        raise ValueError(f"path={str(path)!r} is {what}: pass the name of a file.")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"path={str(path)!r} is in a folder that is not there.")
    content = to_bytes(detector, trusted, notes)
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    try:
        with open(partial, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    if os.name == "posix":  # the new name, too, outlives a loss of power
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def load(path, device=None, *, trusted=()):
    """Read a detector that `save` wrote; nothing in the file is run.

    Parameters
    ----------
    path : str or path
        The file.
    device : str or None, default=None
        Where detectors with a device score: "cpu" or a device of torch. None is the
        device of the fit, or the host where this machine has no such device.
    trusted : sequence of type, default=()
        Classes of your own that the file may name beside those of skad, torch.nn and
        some of scikit-learn.

    Returns
    -------
    detector : estimator
        The detector, which scores to the last bit as the one that was saved.

    Raises
    ------
    CorruptFileError
        A ValueError: the file is damaged, forged, or made by a newer skad.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> import skad
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "damaged.skad")
    ...     _ = path.write_bytes(b"not what it seems")
    ...     skad.load(path)
    Traceback (most recent call last):
    skad.persistence._faults.CorruptFileError: ...damaged.skad cannot be loaded: ...
    """
    return read(path, device, trusted)[0]


def read(path, device=None, trusted=()):
    """Return the detector of a file as `load` does, and its notes or None.

    Notes are what the file says, whoever wrote it: whoever uses them checks them.
    """
    try:
        detector, notes = parsed(as_path(path).read_bytes(), trusted)
    except CorruptFileError as error:
        raise CorruptFileError(f"{path} cannot be loaded: {error}") from error
    _move(detector, device, set())
    return detector, notes


def to_bytes(detector, trusted=(), notes=None):
    """Return the file's content."""
    encoder = Encoder(trusted)
    root = encoder.encode(detector, type(detector).__name__)
    entry = {
        "format": FORMAT,
        "sha256": _ZEROS,
        "versions": _versions(),
        "detector": root,
    }
    if notes is not None:
        entry["notes"] = notes
    text = json.dumps(entry, allow_nan=False, separators=(",", ":"))
    if len(text) > _LARGEST_HEADER // 2:
        raise ValueError(
            f"The detector has {len(text):.1e} bytes besides its arrays, more than a "
            f"file may have ({_LARGEST_HEADER // 2:.0e}): pickle it."
        )
    numpy = need("safetensors.numpy", "a file of a detector")
    content = numpy.save(encoder.arrays, metadata={"skad": text})
    content = bytearray(content)
    largest = max(text_bytes(text), encoder.more)
    if largest > allowance(len(content)):
        raise ValueError(
            f"What the detector has besides its arrays takes {largest:.1e} bytes, more "
            f"than a file of {len(content):.1e} bytes may ask for: pickle it."
        )
    start, stop = _digest_place(content)
    content[start:stop] = hashlib.sha256(content).hexdigest().encode()
    return content


def from_bytes(content, trusted=()):
    """Return the detector; CorruptFileError where that is not possible."""
    return parsed(content, trusted)[0]


def parsed(content, trusted=()):
    """Return the detector and the notes or None; CorruptFileError as `from_bytes`."""
    try:
        entry, arrays = _checked_parts(content)
        with warnings.catch_warnings():
            # of scikit-learn, for each part of a detector; there is one below
            warnings.simplefilter("ignore", UserWarning)
            detector = Decoder(arrays, len(content), trusted).detector(
                entry["detector"]
            )
        _compare_versions(entry["versions"])
    except CorruptFileError:
        raise
    except (Exception, RecursionError) as error:
        reason = str(error).splitlines()[0][:300] if str(error) else ""
        raise CorruptFileError(
            f"what it says makes no detector ({type(error).__name__}: {reason})."
        ) from error
    return detector, entry.get("notes")


def _checked_parts(content):
    """Return skad's entry of the metadata and the arrays, once no byte has changed."""
    if len(content) < 8:
        raise CorruptFileError("it is no safetensors file.")
    (n_header,) = struct.unpack("<Q", content[:8])
    if n_header > min(_LARGEST_HEADER, len(content) - 8):
        raise CorruptFileError("its header is longer than the file, or than allowed.")
    place = _digest_place(content)
    if place is None:
        raise CorruptFileError("it has no checksum: it is not a file of skad's.")
    start, stop = place
    digest = hashlib.sha256(content[:start])
    digest.update(_ZEROS.encode())
    digest.update(memoryview(content)[stop:])
    if digest.hexdigest().encode() != content[start:stop]:
        raise CorruptFileError("it was damaged or changed (its checksum is wrong).")
    header = _parsed(bytes(content[8 : 8 + n_header]).decode(), len(content))
    entry = _parsed(header.pop("__metadata__")["skad"], len(content))
    if type(entry["format"]) is not int or entry["format"] < 1:
        raise CorruptFileError("its format has no version.")
    if entry["format"] > FORMAT:
        made_by = str(entry.get("versions", {}).get("skad"))[:40]
        raise CorruptFileError(
            f"it was written by a newer skad ({made_by}; format {entry['format']}, "
            f"{FORMAT} is known here): update skad."
        )
    return entry, _arrays(header, memoryview(content)[8 + n_header :])


def _parsed(text, size):
    fits = text_bytes(text) <= allowance(size)
    check(fits, "it says more than a file of its size may say")
    return json.loads(text)


def _arrays(header, data):
    """Return the arrays, views of `data`, all of which belongs to one of them."""
    found, places = {}, []
    for name, node in header.items():
        dtype, shape = _DTYPES[node["dtype"]], node["shape"]
        start, stop = node["data_offsets"]
        numbers = [*shape, start, stop]
        check(all(type(n) is int and n >= 0 for n in numbers), "an odd array")
        n_bytes = math.prod(shape) * dtype.itemsize
        check(stop - start == n_bytes, "an array of another size than its shape")
        longest = max(n_bytes, _LONGEST_OF_NOTHING)
        check(max(shape, default=0) <= longest, "an odd array")
        check(stop <= len(data) and len(shape) <= 32, "an array beyond the file")
        places.append((start, stop))
        array = np.frombuffer(data[start:stop], dtype).reshape(shape)
        found[name] = array.astype(dtype.newbyteorder("="), copy=False)
    ends = [0, *(stop for _, stop in sorted(places))]
    starts = [*(start for start, _ in sorted(places)), len(data)]
    check(starts == ends, "arrays that overlap, or bytes between them")
    return found


def _digest_place(content):
    """Return where the checksum stands, or None; twice is not at all."""
    (n_header,) = struct.unpack("<Q", content[:8])
    found = list(_DIGEST.finditer(content, 8, 8 + n_header))
    return found[0].span(1) if len(found) == 1 else None


def _versions():
    import sys

    versions = {
        "skad": __version__,
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "scikit-learn": sklearn.__version__,
    }
    if "torch" in sys.modules:
        versions["torch"] = str(sys.modules["torch"].__version__)
    return versions


def _compare_versions(versions):
    """Warn where another version of what the state belongs to made the file."""
    for name, here in (("skad", __version__), ("scikit-learn", sklearn.__version__)):
        there = str(versions[name])[:40]
        if there.split(".")[:2] != here.split(".")[:2]:
            warnings.warn(
                f"The file was written with {name} {there}, and this is {here}: "
                "scores may differ.",
                stacklevel=4,
            )


def _move(part, device, seen):
    """Let every detector in `part` score on `device`, or here where that is not."""
    if id(part) in seen:
        return
    seen.add(id(part))
    if isinstance(part, list | tuple):
        for each in part:
            _move(each, device, seen)
    elif isinstance(part, dict):
        _move(list(part.values()), device, seen)
    elif type(part).__module__.startswith("skad.") or isinstance(part, BaseEstimator):
        state = getattr(part, "__dict__", {})
        if state.get("device_") is not None:
            part.device_ = _usable(state["device_"], device)
        if isinstance(part, ModuleTail):
            usable = _usable(part.device, device)
            part.module.to(usable)
            if part.head is not None:
                part.head = tuple(each.to(usable) for each in part.head)
        _move(list(state.values()), device, seen)


def _usable(fitted_on, asked):
    try:
        return resolve_device(str(asked or fitted_on), np.zeros(1), 0)
    except ValueError:
        if asked is not None:
            raise
        return "cpu"
