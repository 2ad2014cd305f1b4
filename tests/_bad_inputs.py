"""What people pass by mistake, and what they pass in an unusual wrapper.

`TABLES` are values for `X`, made from training or test rows; `LABELS` are values for
`y`, `GROUPS` for `groups`, `PICTURES` for the `X` of detectors on pictures.
"""

import array
import collections
import dataclasses
import decimal
import fractions
import functools
import io
import itertools
import pathlib
import tempfile
from collections.abc import Callable

import numpy as np
import pandas as pd
import polars as pl
import scipy.sparse
import torch
from PIL import Image

REFUSED = "refused"  # an error that says what is wrong
SAME = "same"  # what the plain rows give, be it an answer or an error
FINITE = "finite"  # a finite answer
EITHER = "either"  # an error that says what is wrong, or a finite answer


def itself(rows):
    """Return the rows."""
    return rows


@dataclasses.dataclass(frozen=True)
class Bad:
    """One kind of input.

    Parameters
    ----------
    make : callable
        Returns the input, from plain rows.
    says : str
        Regular expression that an error's message has to match.
    fit, score : {"refused", "same", "finite", "either"}
        What may happen in fitting, and in all other methods of a fitted detector.
    plain : callable
        Returns the float64 array (n, d) that the input stands for, from plain rows.
    names : bool
        Whether the detector that scores it was fitted on a frame.
    tolerance : float
        How far answers may be from those for the plain rows, relative to the largest.
    """

    make: Callable
    says: str = ""
    fit: str = REFUSED
    score: str = REFUSED
    plain: Callable = itself
    names: bool = False
    tolerance: float = 1e-9


def same(make, **settings):
    return Bad(make, fit=SAME, score=SAME, **settings)


def tensor(make, **settings):
    """Another library's arithmetic, so what is learned may differ a little more."""
    return Bad(make, fit=FINITE, score=SAME, tolerance=1e-4, **settings)


def either(plain, says="too large|overflow|too small|constant"):
    """Numbers that the arithmetic may not bear, in an ordinary array."""
    return Bad(plain, says, fit=EITHER, score=EITHER, plain=plain)


def other_columns(make, says="feature"):
    """A table that may be learned, but not scored after another one."""
    return Bad(make, says, fit=FINITE, plain=make)


def one_picture(rows):
    """Return the rows as the pixels of one picture."""
    return rows.reshape(1, -1)


def put(value, where=(1, 2), dtype=None):
    """Return a function that writes a value into a copy of the rows."""

    def make(rows):
        rows = rows.astype(rows.dtype if dtype is None else dtype)
        rows[where] = value
        return rows

    return make


class Lying:
    """Says one thing about itself and gives another."""

    def __init__(self, rows, length):
        self.rows, self.length = rows, length

    def __len__(self):
        return self.length

    def __getitem__(self, i):
        return self.rows[i]


class Raising:
    """Cannot be made an array."""

    shape = (8, 4)

    def __array__(self, dtype=None, copy=None):
        raise ValueError("this is not an array")


class Shapeless:
    """Is made an array of other shape than it says."""

    shape = (8, 4)
    ndim = 2
    dtype = np.dtype(float)

    def __array__(self, dtype=None, copy=None):
        return np.zeros(3)

    def __len__(self):
        return 8


class Wrapped:
    """Is an array only when asked."""

    def __init__(self, rows):
        self.rows = rows

    def __array__(self, dtype=None, copy=None):
        return np.array(self.rows, dtype=dtype)


class Sub(np.ndarray):
    """An ndarray with a name."""


def columns(rows):
    return list("abcdefgh"[: rows.shape[1]])


def frame(rows):
    return pd.DataFrame(rows, columns=columns(rows))


def endless(rows):
    """Return a list that contains itself."""
    rows = rows.tolist()
    rows.append(rows)
    return rows


def deep(rows):
    """Return lists in lists, more than NumPy has dimensions for."""
    for _ in range(100):
        rows = [rows]
    return rows


def misaligned(rows):
    """Return rows that begin one byte after a multiple of eight."""
    buffer = bytearray(rows.nbytes + 1)
    view = np.frombuffer(buffer, np.float64, count=rows.size, offset=1)
    view = view.reshape(rows.shape)
    view[:] = rows
    return view


def in_file(rows):
    """Return a read-only memory map of a file that has no name any more."""
    with tempfile.NamedTemporaryFile(suffix=".npy") as file:
        np.save(file.name, rows)
        return np.load(file.name, mmap_mode="r")


def closed_file(rows):
    file = io.BytesIO(rows.tobytes())
    file.close()
    return file


def structured(rows):
    return np.rec.fromarrays(rows.T, names=columns(rows))


def read_only(rows):
    rows = rows.copy()
    rows.flags.writeable = False
    return rows


def with_gradient(rows):
    return torch.tensor(rows, requires_grad=True)


def in_graph(rows):
    return with_gradient(rows) * 1.0


TWO_D = r"2D|sequence of samples|[Dd]im|not a sequence|1-D|scalar|shape"
NUMBERS = r"could not convert|must be|numeric|number|not supported|not compatible|dtype"
FEW = r"sample|feature|at least|minimum|no picture"
NAN = r"NaN|missing|convert|float\(\)|NA\b|None"
RAGGED = r"inhomogeneous|homogeneous|sequence|shape|one size|array"
DATES = rf"{NUMBERS}|[Dd]ate|[Tt]ime|promote"
SPARSE = r"[Ss]parse|dense"

TABLES = {
    # ------------------------------------------------------------------- not a table
    "None": Bad(lambda rows: None, rf"{TWO_D}|None"),
    "text": Bad(lambda rows: "rows", "one path 'rows'"),
    "bytes": Bad(lambda rows: b"rows", "one path 'rows'"),
    "path": Bad(lambda rows: pathlib.Path("rows"), "one path 'rows'"),
    "picture of Pillow": Bad(
        lambda rows: Image.fromarray(rows.astype(np.uint8)), r"one picture.*pass \[X\]"
    ),
    "data set of torch": Bad(
        lambda rows: torch.utils.data.TensorDataset(torch.tensor(rows)),
        "X is a TensorDataset of torch",
    ),
    "number": Bad(lambda rows: 3.0, TWO_D),
    "0-d array": Bad(lambda rows: np.array(3.0), TWO_D),
    "1-d array": Bad(lambda rows: rows[0], TWO_D),
    "1-d list": Bad(lambda rows: rows[0].tolist(), TWO_D),
    "array.array": Bad(lambda rows: array.array("d", rows[0]), TWO_D),
    "3-d array": Bad(lambda rows: rows[None], TWO_D, plain=one_picture),
    "5-d array": Bad(lambda rows: rows[None, None, None], TWO_D),
    "dict of columns": Bad(lambda rows: dict(enumerate(rows.T)), rf"{TWO_D}|{NUMBERS}"),
    "set": Bad(lambda rows: set(rows[0]), rf"{TWO_D}|{NUMBERS}"),
    "generator": Bad(lambda rows: (row for row in rows), "read but once"),
    "iterator": Bad(lambda rows: iter(rows.tolist()), "read but once"),
    "map": Bad(lambda rows: map(list, rows), "read but once"),
    "endless iterator": Bad(lambda rows: itertools.count(), "read but once"),
    "function": Bad(lambda rows: itself, rf"{TWO_D}|{NUMBERS}"),
    "class": Bad(lambda rows: np.ndarray, rf"{TWO_D}|{NUMBERS}|class"),
    "module": Bad(lambda rows: np, rf"{TWO_D}|{NUMBERS}"),
    "closed file": Bad(closed_file, "X is a file, a BytesIO"),
    "list of texts": Bad(
        lambda rows: ["first row", "second row"], rf"{TWO_D}|{NUMBERS}"
    ),
    "range": Bad(lambda rows: range(4), TWO_D),
    "__array__ that raises": Bad(lambda rows: Raising(), "not an array"),
    "__array__ of another shape": Bad(lambda rows: Shapeless(), TWO_D),
    "list in itself": Bad(endless, rf"{RAGGED}|{TWO_D}|{NUMBERS}|depth"),
    "list 100 deep": Bad(lambda rows: deep(rows.tolist()), rf"{RAGGED}|{TWO_D}|depth"),
    # ------------------------------------------------------------------- empty, small
    "empty list": Bad(lambda rows: [], rf"{TWO_D}|{FEW}"),
    "list of an empty list": Bad(lambda rows: [[]], rf"{TWO_D}|{FEW}"),
    "no rows": Bad(lambda rows: rows[:0], FEW),
    "no columns": Bad(lambda rows: rows[:, :0], FEW),
    "no rows, no columns": Bad(lambda rows: rows[:0, :0], FEW),
    "empty frame": Bad(lambda rows: pd.DataFrame(), rf"{FEW}|{TWO_D}|at least one"),
    "empty polars frame": Bad(lambda rows: pl.DataFrame(), rf"{FEW}|{TWO_D}"),
    "empty tensor": Bad(lambda rows: torch.tensor(rows)[:0], FEW),
    "tensor without columns": Bad(lambda rows: torch.tensor(rows)[:, :0], FEW),
    "one row": Bad(
        lambda rows: rows[:1],
        r"sample|row|n_\w+|steps",
        EITHER,
        SAME,
        plain=lambda rows: rows[:1],
    ),
    # -------------------------------------------------------------- not numbers, holes
    "ragged list": Bad(lambda rows: [*rows.tolist(), [1.0]], RAGGED),
    "ragged tuple": Bad(lambda rows: ((1.0, 2.0, 3.0, 4.0), (1.0,)), RAGGED),
    "array of lists": Bad(
        lambda rows: np.array([[1.0], [2.0, 3.0]], dtype=object),
        rf"{TWO_D}|{RAGGED}|{NUMBERS}",
    ),
    "None in a list": Bad(lambda rows: [*rows.tolist()[1:], [None] * 4], NAN),
    "array with text": Bad(lambda rows: rows.astype(str).astype(object) + "x", NUMBERS),
    "array of texts": Bad(lambda rows: np.char.add(rows.astype(str), "x"), NUMBERS),
    "array of bytes": Bad(lambda rows: np.char.add(rows.astype("S8"), b"x"), NUMBERS),
    "mixed list": Bad(lambda rows: [[1.0, "x", None, b"y"]] * 8, rf"{NUMBERS}|{NAN}"),
    "objects": Bad(lambda rows: np.full(rows.shape, object()), NUMBERS),
    "complex": Bad(lambda rows: rows + 1j, "[Cc]omplex"),
    "complex without imaginary part": Bad(lambda rows: rows + 0j, "[Cc]omplex"),
    "list of complex": Bad(lambda rows: (rows + 1j).tolist(), "[Cc]omplex"),
    "objects that are complex": Bad(
        lambda rows: (rows + 1j).astype(object), "[Cc]omplex"
    ),
    "structured array": Bad(structured, rf"{TWO_D}|{NUMBERS}"),
    "NaN": Bad(put(np.nan), "NaN"),
    "NaN in float32": Bad(put(np.nan, dtype=np.float32), "NaN"),
    "column of NaN": Bad(put(np.nan, (slice(None), 1)), "NaN"),
    "all NaN": Bad(put(np.nan, ...), "NaN"),
    "NaN in a list": Bad(lambda rows: put(np.nan)(rows).tolist(), "NaN"),
    "infinity": Bad(put(np.inf), "infinity"),
    "minus infinity": Bad(put(-np.inf), "infinity"),
    "infinity in float16": Bad(put(np.inf, dtype=np.float16), "infinity"),
    "masked entries": Bad(
        lambda rows: np.ma.masked_array(rows, mask=np.eye(*rows.shape, dtype=bool)),
        "mask",
    ),
    "number beyond float64": Bad(
        lambda rows: [[10**400] * 4] * 8, r"too large|infinity|convert"
    ),
    "longdouble beyond float64": Bad(
        lambda rows: rows.astype(np.longdouble) + np.longdouble("1e4000"),
        r"too large|infinity",
    ),
    # ------------------------------------------------------------------ sparse, matrix
    "sparse csr": same(scipy.sparse.csr_matrix),
    "sparse coo": same(scipy.sparse.coo_matrix),
    "sparse csc array": same(scipy.sparse.csc_array),
    "sparse dok": same(scipy.sparse.dok_matrix),
    "frame of sparse columns": same(
        lambda rows: frame(rows).astype(pd.SparseDtype(float, 0.0)), names=True
    ),
    "np.matrix": Bad(np.matrix, "matrix"),
    "sparse tensor": Bad(lambda rows: torch.tensor(rows).to_sparse(), SPARSE),
    "sparse csr tensor": Bad(lambda rows: torch.tensor(rows).to_sparse_csr(), SPARSE),
    # ------------------------------------------------------------------------- tensors
    "0-d tensor": Bad(lambda rows: torch.tensor(3.0), TWO_D),
    "1-d tensor": Bad(lambda rows: torch.tensor(rows[0]), TWO_D),
    "3-d tensor": Bad(lambda rows: torch.tensor(rows)[None], TWO_D, plain=one_picture),
    "complex tensor": Bad(lambda rows: torch.tensor(rows) + 0j, "[Cc]omplex"),
    "tensor with NaN": Bad(lambda rows: torch.tensor(put(np.nan)(rows)), "NaN"),
    "tensor with infinity": Bad(
        lambda rows: torch.tensor(put(np.inf)(rows)), "infinity"
    ),
    "tensor without values": Bad(
        lambda rows: torch.empty(rows.shape, device="meta"), "meta"
    ),
    "nested tensor": Bad(
        lambda rows: torch.nested.nested_tensor(
            [torch.tensor(rows[0]), torch.tensor(rows[0, :2])], layout=torch.jagged
        ),
        "nested|jagged|[Ss]parse|strided",
    ),
    "quantized tensor": Bad(
        lambda rows: torch.quantize_per_tensor(
            torch.tensor(rows).float(), 1.0, 0, torch.qint8
        ),
        "quantized|dtype",
    ),
    # -------------------------------------------------------------------------- frames
    "frame with text": Bad(
        lambda rows: frame(rows).assign(a="x"), rf"{NUMBERS}", names=True
    ),
    "frame with categories": Bad(
        lambda rows: frame(rows).assign(a=pd.Categorical(["x"] * len(rows))),
        NUMBERS,
        names=True,
    ),
    "frame with NaN": Bad(lambda rows: frame(put(np.nan)(rows)), "NaN", names=True),
    "frame with pd.NA": Bad(
        lambda rows: frame(rows).astype("Int64").mask(frame(rows) == rows[0, 0]),
        NAN,
        names=True,
    ),
    "polars frame with nulls": Bad(
        lambda rows: pl.DataFrame(
            [[None, *column[1:].tolist()] for column in rows.T], schema=columns(rows)
        ),
        NAN,
        names=True,
    ),
    "polars frame with text": Bad(
        lambda rows: pl.DataFrame(
            rows.astype(str).tolist(), schema=columns(rows), orient="row"
        ).with_columns(pl.lit("x").alias("a")),
        NUMBERS,
        names=True,
    ),
    "frame with int and text names": Bad(
        lambda rows: frame(rows).rename(columns={"a": 0}), "feature names|string"
    ),
    "one column of a frame": Bad(
        lambda rows: frame(rows)["a"], TWO_D, plain=lambda rows: rows[:, :1]
    ),
    "one column of a polars frame": Bad(
        lambda rows: pl.DataFrame(rows, schema=columns(rows))["a"],
        TWO_D,
        plain=lambda rows: rows[:, :1],
    ),
    # ---------------------------------------------------------------- another table
    "fewer columns": other_columns(lambda rows: rows[:, :3]),
    "one column": other_columns(lambda rows: rows[:, :1]),
    "more columns": other_columns(lambda rows: np.c_[rows, rows]),
    "tensor with fewer columns": Bad(
        lambda rows: torch.tensor(rows[:, :3]),
        "feature",
        FINITE,
        plain=lambda rows: rows[:, :3],
    ),
    "rows as columns": Bad(
        lambda rows: rows.T.copy(), "feature", EITHER, plain=lambda rows: rows.T
    ),
    "renamed columns": Bad(
        lambda rows: frame(rows).rename(columns={"a": "z"}),
        "feature names",
        SAME,
        names=True,
    ),
    "reordered polars columns": Bad(
        lambda rows: pl.DataFrame(rows, schema=columns(rows)[::-1]),
        "feature names",
        SAME,
        names=True,
    ),
    "missing column": Bad(
        lambda rows: frame(rows).drop(columns="a"),
        "feature",
        FINITE,
        plain=lambda rows: rows[:, 1:],
        names=True,
    ),
    "one column twice": Bad(
        lambda rows: frame(rows).set_axis(["a", "a", "b", "c"], axis=1),
        "feature names|unique column names",
        names=True,
    ),
    # ----------------------------------------------------- good tables, oddly wrapped
    "list of lists": same(np.ndarray.tolist),
    "tuple of tuples": same(lambda rows: tuple(map(tuple, rows.tolist()))),
    "list of arrays": same(list),
    "list of tensors": same(lambda rows: list(torch.tensor(rows))),
    "deque": same(lambda rows: collections.deque(rows.tolist())),
    "UserList": same(lambda rows: collections.UserList(rows.tolist())),
    "Decimals": same(
        lambda rows: [[decimal.Decimal(x) for x in row] for row in rows.tolist()]
    ),
    "Fractions": same(
        lambda rows: [[fractions.Fraction(x) for x in row] for row in rows.tolist()]
    ),
    "objects that are numbers": same(lambda rows: rows.astype(object)),
    "texts that are numbers": Bad(
        lambda rows: rows.astype(str), NUMBERS, fit=EITHER, score=EITHER
    ),
    "object with __array__": same(Wrapped),
    "object that is shorter than it says": same(lambda rows: Lying(rows, 99)),
    "object that is longer than it says": same(lambda rows: Lying(rows, 0)),
    "memoryview": same(memoryview),
    "subclass of ndarray": same(lambda rows: rows.view(Sub)),
    "masked array without masks": same(np.ma.masked_array),
    "Fortran order": same(np.asfortranarray),
    "read-only": same(read_only),
    "read-only memory map": same(in_file),
    "negative strides": same(lambda rows: rows[::-1, ::-1].copy()[::-1, ::-1]),
    "not contiguous": same(
        lambda rows: np.repeat(np.repeat(rows, 3, 0), 2, 1)[::3, ::2]
    ),
    "zero strides": same(
        lambda rows: np.broadcast_to(rows[0], rows.shape),
        plain=lambda rows: np.repeat(rows[:1], len(rows), axis=0),
    ),
    "overlapping strides": same(
        lambda rows: np.lib.stride_tricks.sliding_window_view(rows[:, 0], 4),
        plain=lambda rows: np.lib.stride_tricks.sliding_window_view(
            rows[:, 0], 4
        ).copy(),
    ),
    "misaligned": same(misaligned),
    "big-endian": same(lambda rows: rows.astype(">f8")),
    "big-endian float32": Bad(
        lambda rows: rows.astype(">f4"), fit=FINITE, score=SAME, tolerance=1e-3
    ),
    "float16": same(lambda rows: rows.astype(np.float16)),
    "longdouble": same(lambda rows: rows.astype(np.longdouble)),
    "int8": same(lambda rows: rows.astype(np.int8)),
    "uint64": same(lambda rows: rows.astype(np.uint64)),
    "booleans": same(lambda rows: rows > 4, plain=lambda rows: (rows > 4) * 1.0),
    "negative zeros": same(
        lambda rows: np.where(rows == 0, -0.0, rows), plain=lambda rows: rows + 0.0
    ),
    "frame": same(frame, names=True),
    "frame of nullable integers": same(
        lambda rows: frame(rows).astype("Int64"), names=True
    ),
    "frame with levels of names": same(
        lambda rows: pd.DataFrame(
            rows, columns=pd.MultiIndex.from_product([["a"], columns(rows)])
        )
    ),
    "frame with a shuffled index": same(
        lambda rows: frame(rows).set_index(np.arange(len(rows))[::-1]), names=True
    ),
    "polars frame": same(
        lambda rows: pl.DataFrame(rows, schema=columns(rows)), names=True
    ),
    "tensor": tensor(torch.tensor),
    "tensor with gradient": tensor(with_gradient),
    "tensor inside a graph": tensor(in_graph),
    "parameter of a network": tensor(
        lambda rows: torch.nn.Parameter(torch.tensor(rows))
    ),
    "tensor of integers": tensor(lambda rows: torch.tensor(rows, dtype=torch.int64)),
    "tensor of bytes": tensor(lambda rows: torch.tensor(rows, dtype=torch.uint8)),
    # so many equal distances that rounding says who is nearest
    "tensor of booleans": Bad(
        lambda rows: torch.tensor(rows > 4), fit=FINITE, score=FINITE
    ),
    "bfloat16 tensor": tensor(lambda rows: torch.tensor(rows, dtype=torch.bfloat16)),
    "transposed tensor": tensor(lambda rows: torch.tensor(rows.T.copy()).T),
    "expanded tensor": Bad(
        lambda rows: torch.tensor(rows[0]).expand(rows.shape),
        "constant",
        EITHER,
        SAME,
        plain=lambda rows: np.repeat(rows[:1], len(rows), axis=0),
        tolerance=1e-4,
    ),
    "dates": Bad(
        lambda rows: rows.astype("datetime64[s]"), DATES, fit=EITHER, score=EITHER
    ),
    "durations": Bad(
        lambda rows: rows.astype("timedelta64[s]"), DATES, fit=EITHER, score=EITHER
    ),
    "frame of dates": Bad(
        lambda rows: frame(rows).astype("datetime64[ns]"),
        DATES,
        fit=EITHER,
        score=EITHER,
        names=True,
    ),
    # --------------------------------------------------------------- numbers that hurt
    "huge": either(lambda rows: rows * 1e299),
    "largest float": either(put(np.finfo(float).max)),
    "huge uint64": Bad(
        lambda rows: np.full(rows.shape, 2**64 - 1, dtype=np.uint64),
        "too large|overflow",
        EITHER,
        EITHER,
        plain=lambda rows: np.full(rows.shape, 2.0**64),
    ),
    "denormals": either(lambda rows: rows * 5e-324),
    "one far value": either(put(1e15)),
    "one column huge": either(lambda rows: rows * [1.0, 1e100, 1e-100, 1.0]),
    "constant": either(lambda rows: np.full(rows.shape, 7.0)),
    "zeros": either(np.zeros_like),
    "one row again and again": either(
        lambda rows: np.repeat(rows[:1], len(rows), axis=0)
    ),
    "equal columns": either(lambda rows: np.repeat(rows[:, :1], 4, axis=1)),
}

# What a detector that reads missing values may be given.
MISSING = {
    "NaN",
    "NaN in float32",
    "column of NaN",
    "all NaN",
    "NaN in a list",
    "tensor with NaN",
    "frame with NaN",
}

# What pictures may be, and tables may not: (kinds, what an error may say instead).
FOR_PICTURES = {"3-d array", "3-d tensor"}, "feature|images of shape|sample"
PATHS = {"list of texts"}, "there is no such file"

# What a series may be, and a table may not.
FOR_SERIES = {"one column of a frame", "one column of a polars frame"}, "feature"

# Values for y, made from the number of rows: an error that names y, or y is not used.
LABELS = {
    "too few": lambda n: np.ones(n - 1),
    "too many": lambda n: np.ones(n + 1),
    "none": lambda n: [],
    "number": lambda n: 1,
    "text": lambda n: "normal",
    "two columns": lambda n: np.ones((n, 2)),
    "one column": lambda n: np.arange(n)[:, None] % 2,
    "NaN": lambda n: np.r_[np.nan, np.ones(n - 1)],
    "infinity": lambda n: np.r_[np.inf, np.ones(n - 1)],
    "None inside": lambda n: [None, *[1] * (n - 1)],
    "texts": lambda n: np.array(["normal", "anomaly"] * n)[:n],
    "mixed": lambda n: [1, "normal", *[1] * (n - 2)],
    "objects": lambda n: [object()] * n,
    "complex": lambda n: np.ones(n) + 1j,
    "floats": lambda n: np.linspace(-1, 1, n),
    "booleans": lambda n: np.arange(n) % 2 == 0,
    "all anomalies": lambda n: -np.ones(n),
    "all unlabelled": lambda n: np.zeros(n),
    "one class": lambda n: np.ones(n, dtype=int),
    "all different": lambda n: np.arange(n),
    "ragged": lambda n: [[1], [1, 2], *[[1]] * (n - 2)],
    "dict": lambda n: dict.fromkeys(range(n), 1),
    "generator": lambda n: (1 for _ in range(n)),
    "sparse": lambda n: scipy.sparse.csr_matrix(np.ones((n, 1))),
    "tensor": lambda n: torch.ones(n),
    "tensor with NaN": lambda n: torch.full((n,), torch.nan),
    "series of a frame": lambda n: pd.Series(np.ones(n)),
}

# Values for groups: an error that names groups or a length, or a finite answer.
GROUPS = {
    **{
        kind: LABELS[kind]
        for kind in (
            "too few",
            "too many",
            "none",
            "number",
            "text",
            "two columns",
            "NaN",
            "None inside",
            "texts",
            "mixed",
            "objects",
            "booleans",
            "one class",
            "all different",
            "ragged",
            "dict",
            "generator",
            "sparse",
            "tensor",
            "tensor with NaN",
        )
    },
    "0-d tensor": lambda n: torch.tensor(1),
    "interleaved": lambda n: np.arange(n) % 2,
}


@functools.cache
def folder():
    """Return a folder that goes with its files when the tests end."""
    return tempfile.TemporaryDirectory(prefix="skad-bad-pictures-")


def with_file(content, name="picture.png"):
    """Return a path to a file that is no picture."""
    path = pathlib.Path(tempfile.mkdtemp(dir=folder().name)) / name
    path.write_bytes(content)
    return [str(path)]


# Values for the X of detectors fitted on pictures (n, 8, 8, 3), made from such.
PICTURES = {
    "two channels": lambda x: x[..., :2],
    "four channels": lambda x: np.concatenate([x, x[..., :1]], axis=-1),
    "no channels": lambda x: x[..., :0],
    "channels first": lambda x: x.transpose(0, 3, 1, 2),
    "grey": lambda x: x[..., 0],
    "another size": lambda x: x[:, :4],
    "no height": lambda x: x[:, :0],
    "no pictures": lambda x: x[:0],
    "one picture without its axis": lambda x: x[0],
    "one grey picture": lambda x: x[0, ..., 0],
    "video": lambda x: x[None],
    "list of two sizes": lambda x: [x[0], x[1, :4]],
    "list of grey and colour": lambda x: [x[0], x[1, ..., 0]],
    "list of a picture and a path": lambda x: [x[0], "picture.png"],
    "list of None": lambda x: [None, None],
    "empty list": lambda x: [],
    "NaN": put(np.nan, (0, 1, 2, 0)),
    "infinity": put(np.inf, (0, 1, 2, 0)),
    "huge": lambda x: x * 1e300,
    "complex": lambda x: x + 1j,
    "objects": lambda x: x.astype(object),
    "int64": lambda x: (x * 255).astype(np.int64),
    "int8": lambda x: (x * 100).astype(np.int8),
    "dates": lambda x: (x * 255).astype("datetime64[s]"),
    "texts": lambda x: x.astype(str),
    "masked": lambda x: np.ma.masked_greater(x, 0.5),
    "meta tensor": lambda x: torch.empty(x.shape, device="meta"),
    "sparse tensor": lambda x: torch.tensor(x).to_sparse(),
    "complex tensor": lambda x: torch.tensor(x) + 0j,
    "integer tensor": lambda x: torch.ones(x.shape, dtype=torch.int64),
    "tensor with NaN": lambda x: torch.full(x.shape, torch.nan),
    "tensor, channels first": lambda x: torch.tensor(x).permute(0, 3, 1, 2),
    "rows": lambda x: x.reshape(len(x), -1)[:, :-1],
    "missing file": lambda x: ["no/such/picture.png"],
    "folder": lambda x: [tempfile.gettempdir()],
    "text file": lambda x: with_file(b"no picture"),
    "empty file": lambda x: with_file(b""),
    "cut file": lambda x: with_file(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"),
    "path alone": lambda x: "picture.png",
    "generator": lambda x: (picture for picture in x),
    "picture of Pillow": lambda x: Image.fromarray((x[0] * 255).astype(np.uint8)),
    "data set of torch": lambda x: torch.utils.data.TensorDataset(torch.tensor(x)),
}

# What a detector of categories may take.
TEXT_OF_FRAMES = ("frame with text", "frame with categories", "polars frame with text")
