"""Forged files: valid ones with other numbers, shapes, dtypes, names and arrays inside.

`python -m tests._forged FOLDER SEED START STOP` makes those of a range of numbers from
the files of a folder, loads each and lets it score what lies beside its original. It
prints one line of JSON for each. Whoever calls it sees in which a process dies.
"""

import collections
import copy
import hashlib
import json
import math
import pathlib
import queue
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import warnings

import numpy as np

# What a file may take beyond twice its size, and what stops a process before the
# machine suffers.
ROOM, MOST = 200 * 2**20, 2**32
SECONDS = 10  # of one file, which may ask for many steps but not for a crash
PATIENCE = 300  # until a process speaks, which imports and warms up first

_INTEGERS = [0, 1, -1, 2, 3, 7, 1000, 10**6, 2**31 - 2, 2**31, -(2**31), 2**62, 2**70]
_FLOATS = [0.0, -1.0, 0.5, 1e-300, 1e300, math.nan, math.inf, -math.inf]
_TEXTS = [
    "abc",
    "",
    "auto",
    "cpu",
    "euclidean",
    "<U400000",
    "float32",
    "int64",
    "array",
]
_DTYPES = {
    "BOOL": "bool",
    **{f"F{n}": f"float{n}" for n in (16, 32, 64)},
    **{f"I{n}": f"int{n}" for n in (8, 16, 32, 64)},
    **{f"U{n}": f"uint{n}" for n in (8, 16, 32, 64)},
}


def taken_apart(content):
    """Return skad's entry and the arrays of a file."""
    content = bytes(content)
    (n,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + n])
    entry, arrays = json.loads(header.pop("__metadata__")["skad"]), {}
    for name, node in header.items():
        start, stop = (8 + n + at for at in node["data_offsets"])
        flat = np.frombuffer(content[start:stop], _DTYPES[node["dtype"]])
        arrays[name] = flat.reshape(node["shape"]).copy()
    return entry, arrays


def put_together(entry, arrays, lie=None):
    """Return a file with a checksum that is right; `lie` changes what it says."""
    names = {dtype: name for name, dtype in _DTYPES.items()}
    entry["sha256"] = 64 * "0"
    text = json.dumps(entry, separators=(",", ":"))
    header, start = {"__metadata__": {"skad": text}}, 0
    for name, array in arrays.items():
        stop = start + array.nbytes
        header[name] = {
            "dtype": names[array.dtype.name],
            "shape": list(array.shape),
            "data_offsets": [start, stop],
        }
        start = stop
    if lie is not None:
        lie(header)
    text = json.dumps(header, separators=(",", ":")).encode()
    content = bytearray(struct.pack("<Q", len(text)) + text)
    content += b"".join(array.tobytes() for array in arrays.values())
    key = rb"\"sha256\":\""
    at = content.index(key) + len(key)
    content[at : at + 64] = hashlib.sha256(content).hexdigest().encode()
    return bytes(content)


def _places(node, found=None):
    """Return (container, key, value) of everything in a structure of JSON."""
    found = [] if found is None else found
    items = node.items() if isinstance(node, dict) else enumerate(node)
    for key, value in items:
        found.append((node, key, value))
        if isinstance(value, dict | list):
            _places(value, found)
    return found


class Forger:
    """Draws changes of a file's structure and arrays."""

    def __init__(self, content, rng):
        self.rng, self.lie = rng, None
        self.entry, self.arrays = taken_apart(content)

    def forged(self):
        """Return the file with one to three changes."""
        kinds = [
            *3 * [self.number],
            *(self.text, self.array, self.array, self.shape, self.shape, self.dtype),
            *(self.swap, self.drop, self.again, self.many, self.other, self.header),
            *2 * [self.everywhere, self.together],
        ]
        for _ in range(self.rng.integers(1, 4)):
            kinds[self.rng.integers(len(kinds))]()
        return put_together(self.entry, self.arrays, self.lie)

    def pick(self, values):
        """Return one of several, None of none."""
        values = list(values)
        return values[self.rng.integers(len(values))] if values else None

    def places(self, fits=lambda container, key, value: True):
        """Return the places of the detector that fit."""
        found = _places(self.entry["detector"])
        return [place for place in found if fits(*place)]

    def value(self):
        """Return a value that hardly any place is made for."""
        number = self.pick(_FLOATS)
        odd = {"is": "float", "value": repr(number)}
        number = number if math.isfinite(number) else odd
        return self.pick(
            [self.pick(_INTEGERS), number, self.pick(_TEXTS), None, [], {}]
        )

    def number(self):
        """Write another number."""
        place = self.pick(
            self.places(lambda c, k, v: isinstance(v, int | float) and k != "number")
        )
        if place:
            container, key, value = place
            near = [value + 1, value - 1, 2 * value, -value]
            container[key] = self.pick([*near, self.pick(_INTEGERS), self.value()])

    def everywhere(self):
        """Write another size wherever a size stands, so that all agree on it."""
        _, _, size = self.pick(
            self.places(lambda c, k, v: type(v) is int and v > 1 and k != "number")
            or [(None, None, 2)]
        )
        number = self.pick([size + 1, size - 1, 1, 2 * size, *_INTEGERS])
        for container, key, value in self.places():
            if type(value) is int and value == size and key != "number":
                container[key] = number
        if number < 1000 and self.rng.random() < 0.5:
            for name, array in self.arrays.items():
                shape = [max(0, number) if n == size else n for n in array.shape]
                self.arrays[name] = np.resize(array, shape)

    def together(self):
        """Write another size at all of its places, and indices that just fit it."""
        place = self.pick(
            self.places(lambda c, k, v: str(k).startswith("n_") and type(v) is int)
        )
        if place is None:
            return
        number = self.pick([place[2] + 1, *_INTEGERS])
        owners = [c for c, k, v in self.places() if k == place[1]]
        for container in owners:
            container[place[1]] = number
        fields = collections.defaultdict(list)
        for container in owners:
            for _, field, node in _places(container):
                array = isinstance(node, dict) and self.arrays.get(
                    str(node.get("name"))
                )
                if isinstance(array, np.ndarray) and array.dtype.kind == "i":
                    fields[field].append(node["name"])
        for name in fields.get(self.pick(fields), []):
            index = np.array((number - 1) % 2**64, np.uint64)
            array = self.arrays[name].copy()
            array[array > 0] = index.astype(array.dtype)
            self.arrays[name] = array

    def text(self):
        """Write another word, one of the file's own often."""
        places = self.places(lambda c, k, v: isinstance(v, str))
        if places:
            container, key, value = self.pick(places)
            alike = [v for _, k, v in places if k == key]
            container[key] = self.pick(
                [self.pick(alike), self.pick(_TEXTS), value[:-1]]
            )

    def array(self):
        """Write other values into an array."""
        name = self.pick(self.arrays)
        if name is None or not self.arrays[name].size:
            return
        array = self.arrays[name] = np.ascontiguousarray(self.arrays[name])
        flat = array.reshape(-1)
        at = self.rng.integers(flat.size, size=self.pick([1, 1, 3, flat.size]))
        if flat.dtype.kind == "f":
            with np.errstate(over="ignore"):
                flat[at] = self.pick(_FLOATS)
        elif flat.dtype.kind == "b":
            flat.view(np.uint8)[at] = self.pick([0, 1, 2, 255])
        else:
            number = self.pick([*_INTEGERS, *range(-3, 40), int(flat[at[0]]) + 1])
            flat[at] = np.array(number % 2**64, np.uint64).astype(flat.dtype)

    def shape(self):
        """Give an array another shape, with as many bytes as that takes."""
        name = self.pick(self.arrays)
        if name is None:
            return
        array = self.arrays[name]
        shapes = [
            (2, 1),
            (array.size,),
            array.shape[::-1],
            (1, *array.shape),
            (0, *array.shape[1:]),
            (),
            array.shape[:-1],
        ]
        for axis in range(array.ndim):
            for change in (-1, 1):
                other = list(array.shape)
                other[axis] = max(0, other[axis] + change)
                shapes.append(tuple(other))
        self.arrays[name] = np.resize(array, self.pick(shapes))

    def dtype(self):
        """Give an array another dtype, of which its node often knows."""
        name, dtype = self.pick(self.arrays), self.pick(_DTYPES.values())
        if name is None:
            return
        with np.errstate(invalid="ignore", over="ignore"):
            self.arrays[name] = self.arrays[name].astype(dtype)
        if self.rng.random() < 0.8:
            for node, _, _ in self.places(lambda c, k, v: k == "name" and v == name):
                node["dtype"] = dtype

    def swap(self):
        """Let two values, or two arrays, change places."""
        kind = self.pick([dict, list, str, int])
        places = self.places(lambda c, k, v: isinstance(v, kind))
        if self.rng.random() < 0.5:
            places = self.places(lambda c, k, v: k == "name")
        if len(places) < 2:
            return
        (one, key, value), (other, k, v) = self.pick(places), self.pick(places)
        one[key], other[k] = copy.deepcopy(v), copy.deepcopy(value)

    def drop(self):
        """Leave something out, or call it something else."""
        container, key, value = self.pick(self.places())
        del container[key]
        if isinstance(container, dict) and self.rng.random() < 0.5:
            container[self.pick([*container, "n_features_in_", "p"])] = value

    def again(self):
        """Write what is somewhere else of the file, or what is not."""
        numbers = [v for _, _, v in self.places(lambda c, k, v: k == "number")]
        container, key, _ = self.pick(self.places())
        number = self.pick([*numbers, 10**6])
        container[key] = {"is": "again", "number": copy.deepcopy(number)}

    def many(self):
        """Repeat the entries of a list, or write long texts into an array."""
        place = self.pick(self.places(lambda c, k, v: isinstance(v, list) and v))
        if place and self.rng.random() < 0.7:
            container, key, value = place
            container[key] = value * int(self.pick([2, 3, 1000]))
            return
        width = int(self.pick([10, 1000, 400_000]))
        container, key, _ = self.pick(self.places())
        items = ["a" * width] + ["b"] * int(self.pick([0, 1, 3000]))
        node = {"is": "objects", "dtype": f"<U{width}", "shape": [len(items)]}
        container[key] = {**node, "number": 10**7, "items": items}

    def other(self):
        """Write something of another kind."""
        container, key, _ = self.pick(self.places())
        container[key] = self.value()

    def header(self):
        """Say of an array in the header what it is not."""
        name, number = self.pick(self.arrays), self.pick(_INTEGERS)
        dtype, end = self.pick(_DTYPES), int(self.rng.integers(2))

        def lie(header):
            node = header.get(name)
            if node is None:
                return
            change = self.rng.integers(4)
            if change == 0:
                node["dtype"] = dtype
            elif change == 1:
                node["shape"] = [number, *node["shape"][1:]]
            elif change == 2:
                node["shape"] = [0, number]
            else:
                node["data_offsets"][end] = number

        if self.rng.random() < 0.5:
            self.lie = lie


def forged(files, seed, number):
    """Return the file that is forged as the `number`-th, and its content."""
    rng = np.random.default_rng([seed, number])
    file = files[rng.integers(len(files))]
    return file, Forger(file.read_bytes(), rng).forged()


# ----------------------------------------------------------------------- in a process


def _memory(name):
    for line in pathlib.Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return 1024 * int(line.split()[1])
    raise LookupError(name)


class _TooLong(BaseException):
    pass


def _stop(*_):
    raise _TooLong


def _outcome(content, X):
    """Return what comes of a forged file: a word, and why."""
    from skad.persistence import CorruptFileError
    from skad.persistence._file import _move, from_bytes

    try:
        detector = from_bytes(content)
        _move(detector, None, set())
    except CorruptFileError as error:
        memory = isinstance(error.__cause__, MemoryError)
        return ("memory" if memory else "refused"), str(error)
    except Exception as error:
        return "load", repr(error)[:300]
    try:
        method = "score_samples" if hasattr(detector, "score_samples") else "predict"
        getattr(detector, method)(X)
    except MemoryError as error:
        return "memory", repr(error)[:300]
    except Exception as error:
        memory = "allocate memory" in str(error)
        return ("memory" if memory else "raised"), repr(error)[:300]
    return "scored", ""


def _main(folder, seed, start, stop):
    import resource

    files = sorted(pathlib.Path(folder).glob("*.skad"))
    warnings.simplefilter("ignore")
    for file in files:  # what is imported and warmed up is no forged file's doing
        _outcome(file.read_bytes(), np.load(file.with_suffix(".npy")))
    limit = _memory("VmSize") + MOST
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    signal.signal(signal.SIGALRM, _stop)
    for number in range(int(start), int(stop)):
        file, content = forged(files, int(seed), number)
        X = np.load(file.with_suffix(".npy"))
        print(json.dumps({"number": number, "file": file.stem}), flush=True)
        pathlib.Path("/proc/self/clear_refs").write_text("5")  # the peak is now
        before = _memory("VmRSS") - len(content)
        signal.alarm(SECONDS)
        try:
            word, why = _outcome(content, X)
        except _TooLong:
            word, why = "slow", ""
        signal.alarm(0)
        used = _memory("VmHWM") - before
        if used > 2 * len(content) + ROOM:
            word, why = "memory", f"{used / 2**20:.0f} MB: {word} {why}"
        found = {"number": number, "word": word, "why": why, "MB": used >> 20}
        print(json.dumps(found), flush=True)


def said_by(command, patience=PATIENCE):
    """Return the exit status of a process, its lines, and what it says of errors.

    One that says nothing for `patience` seconds is stopped: compiled code does not heed
    the alarm of a single file.
    """
    lines = queue.SimpleQueue()
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            cwd=pathlib.Path(__file__).parents[1],
        )

        def read():
            for line in process.stdout:
                lines.put(line)
            lines.put(None)

        threading.Thread(target=read, daemon=True).start()
        found, silent = [], ""
        try:
            while (line := lines.get(timeout=patience)) is not None:
                found.append(line)
        except queue.Empty:
            silent = f"hangs: it says nothing for {patience} s\n"
            process.kill()
        code = process.wait()
        errors.seek(0)
        return code, found, silent + errors.read()


def run(folder, seed, start, stop):
    """Return what comes of forged files, {number: (word, why, file)}, in processes.

    The word is "refused", "scored", "raised" (by the score), "slow", or a fault: "load"
    (an error of another kind), "memory" or "crash".
    """
    found, files = {}, {}
    while start < stop:
        command = [sys.executable, "-X", "faulthandler", "-m", "tests._forged"]
        command += [str(folder), str(seed), str(start), str(stop)]
        begun = None
        code, lines, err = said_by(command)
        for line in lines:
            said = json.loads(line)
            if "file" in said:
                begun, files[said["number"]] = said["number"], said["file"]
            else:
                found[said["number"]] = said["word"], said["why"], files[begun]
        if begun is None:
            raise RuntimeError(err)
        if begun not in found:
            found[begun] = "crash", f"{code} {err[-1500:]}", files[begun]
        elif code and begun + 1 < stop:
            raise RuntimeError(err)
        start = begun + 1
    return found


def counted(found):
    """Return how often each word was said."""
    return collections.Counter(word for word, _, _ in found.values())


if __name__ == "__main__":
    _main(*sys.argv[1:])
