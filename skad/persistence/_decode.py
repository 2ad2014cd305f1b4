"""From JSON and arrays back to a detector: the mirror image of `_encode`.

Whatever a file says, this sets attributes of objects of known classes to plain values.
Anything that does not fit is a ValueError, KeyError, TypeError... that `load` turns
into its one error.
"""

import collections
import pathlib

import numpy as np
from numpy.random import RandomState
from scipy.sparse import csr_array
from sklearn.base import BaseEstimator
from sklearn.neighbors import NearestNeighbors

from skad._sklearn import tree_class
from skad.neighbors._search import METRICS
from skad.persistence._encode import BITS, MODULE_PARTS, PLAIN, REFERRED, n_bytes
from skad.persistence._fits import allowance, check, check_fit
from skad.persistence._names import GONE, PARTS, Gone, find

# Detectors hold detectors hold modules; no honest file comes near.
_DEEPEST = 100
# Of the dtypes of texts that attributes may be; they have no array to be compared with.
_WIDEST = 2**12


class Decoder:
    """Reads one detector from its `arrays`, checked against what is said of them.

    `size` is the file's, in bytes: what is made beside the arrays is bounded by it.
    """

    def __init__(self, arrays, size, trusted=()):
        self.arrays, self.trusted = arrays, tuple(trusted)
        self._made, self._depth, self._room = {}, 0, allowance(size)

    def detector(self, node):
        """Return the detector that `node` stands for, whose parts fit each other."""
        found = self.decode(node)
        check(not self.arrays, "it has arrays that belong to nothing")
        check(isinstance(found, BaseEstimator), "it holds no detector")
        check_fit([each for each in self._made.values() if not isinstance(each, Gone)])
        return found

    def _take(self, size):
        self._room -= size
        check(self._room >= 0, "more memory than its size allows")

    def decode(self, node):
        """Return the value that `node` stands for."""
        if node is None or isinstance(node, bool | int | float | str):
            return node
        self._depth += 1
        check(self._depth <= _DEEPEST, "nested too deeply")
        try:
            if isinstance(node, list):
                return [self.decode(each) for each in node]
            kind = node["is"]
            if kind == "again":
                value = self._made[node["number"]]
                self._take(n_bytes(value))
                return value
            value = self._KINDS[kind](self, node)
        finally:
            self._depth -= 1
        if "number" in node:
            check(kind in REFERRED, f"a number of a {kind}")
            self._know(node["number"], value)
        return value

    def _know(self, number, value):
        fits = type(number) is int and self._made.get(number, value) is value
        check(fits, "two things of one number")
        self._made[number] = value

    # ------------------------------------------------------------------------- values

    def _items(self, node):
        check(isinstance(node["items"], list), "items that are no list")
        return [self.decode(each) for each in node["items"]]

    def _float(self, node):
        check(node["value"] in ("nan", "inf", "-inf"), "a float that is none")
        return float(node["value"])

    def _dict(self, node):
        pairs = [(self.decode(k), self.decode(v)) for k, v in node["items"]]
        return (dict if node["is"] == "dict" else collections.OrderedDict)(pairs)

    def _size(self, node):
        import torch

        return torch.Size(self._items(node))

    def _named(self, node):
        found = find(node["class"])
        check(issubclass(found, tuple), f"{node['class']} is no tuple")
        return found(*self._items(node))

    def _scalar(self, node):
        dtype = np.dtype(node["dtype"])
        check(dtype.kind in "biufc", "a scalar of another kind")
        bits = bytes.fromhex(node["value"])
        check(len(bits) == dtype.itemsize, "a scalar of another size")
        return np.frombuffer(bits, dtype)[0]

    def _dtype(self, node):
        dtype = np.dtype(str(node["value"]))
        fits = dtype.kind in "biufc" or (
            dtype.kind in "US" and dtype.itemsize < _WIDEST
        )
        check(fits, "a dtype of another kind")
        return dtype

    def _torch_dtype(self, node):
        import torch

        check(node["value"] in PLAIN | set(BITS), "an unknown dtype")
        return getattr(torch, node["value"])

    def _device(self, node):
        import torch

        return torch.device(str(node["value"]))

    def _objects(self, node):
        items, dtype = self._items(node), np.dtype(str(node["dtype"]))
        check(dtype.kind in "OUS", "an array of another kind")
        # what the declared width asks for is bounded by what is there
        longest = max((len(each) for each in items if type(each) is str), default=1)
        check(dtype.kind == "O" or dtype.itemsize <= 4 * longest + 4, "too wide")
        self._take(len(items) * dtype.itemsize)
        array = np.empty(len(items), dtype=dtype)
        for i, item in enumerate(items):
            array[i] = item
        return array.reshape(self._shape(node["shape"]))

    @staticmethod
    def _shape(shape):
        check(
            isinstance(shape, list)
            and len(shape) <= 32
            and all(type(n) is int and n >= 0 for n in shape),
            "a shape that is none",
        )
        return tuple(shape)

    def _array(self, node):
        array, dtype = self.arrays.pop(node["name"]), node["dtype"]
        check(dtype in PLAIN or dtype in BITS, f"an array of dtype {dtype}")
        check(array.dtype.name == BITS.get(dtype, dtype), "an array of another dtype")
        # NumPy counts on a bool to be 0 or 1, where it chooses by a mask
        fits = dtype != "bool" or not (array.view(np.uint8) > 1).any()
        check(fits, "truth values beyond 0 and 1")
        array = array.copy()  # aligned and writeable, which the file's bytes are not
        if dtype.startswith("complex"):
            check(array.ndim and array.shape[-1] == 2, "numbers without two parts")
            array = array.view(dtype)[..., 0]
        if "order" in node:
            order = node["order"]
            check(sorted(order) == list(range(array.ndim)), "axes that are none")
            array = array.transpose(np.argsort(order))
        if node["is"] == "array":
            return array
        import torch

        tensor = torch.from_numpy(array)
        if dtype == "bfloat16":
            tensor = tensor.view(torch.bfloat16)
        if node["is"] == "parameter":
            tensor = torch.nn.Parameter(tensor, requires_grad=node["grad"] is True)
        return tensor

    # ------------------------------------------------------------------------ objects

    def _random(self, node):
        keys, position, has_gauss, gauss = self._items(node)
        fits = keys.shape == (624,) and keys.dtype == np.uint32
        # nothing but zeros would be drawn from zeros
        fits = fits and 0 <= position <= 624 and (keys[0] >> 31 or keys[1:].any())
        check(fits, "an impossible random state")
        random = RandomState()
        random.set_state(("MT19937", keys, int(position), int(has_gauss), float(gauss)))
        return random

    def _sparse(self, node):
        """Return sparse rows whose indices lead nowhere else."""
        data, indices, starts = items = self._items(node)
        (n, d), kinds = self._shape(node["shape"]), "fii"
        fits = all(
            isinstance(part, np.ndarray) and part.ndim == 1 and part.dtype.kind == kind
            for part, kind in zip(items, kinds, strict=True)
        )
        fits = fits and starts.shape == (n + 1,) and indices.shape == data.shape
        # SciPy does not look at the starts of rows that store nothing
        fits = fits and starts[0] == 0 and starts[-1] == len(data)
        fits = fits and bool((starts[1:] >= starts[:-1]).all())
        check(fits and indices.dtype == starts.dtype, "sparse rows that are none")
        check(d < 2**31, "sparse rows of too many features")
        rows = csr_array((data, indices, starts), shape=(n, d))
        rows.check_format(full_check=True)
        return rows

    def _state(self, node, cls):
        check(isinstance(node["state"], dict), "a state that is none")
        state = {}
        for name, value in node["state"].items():
            # data must not stand where methods are looked for
            hides = name.startswith("__") or callable(getattr(cls, name, None))
            check(not hides, f"an attribute {name} of {cls.__name__}")
            decoded = self.decode(value)
            if not isinstance(decoded, Gone):
                state[name] = decoded
        return state

    def _new(self, node, kind):
        """Return an empty object, known to what refers to it from inside."""
        cls = find(node["class"], self.trusted)
        fits = isinstance(cls, type) and (
            issubclass(cls, kind)
            or (kind is BaseEstimator and node["class"] in PARTS | GONE)
            or any(cls is each for each in self.trusted)
        )
        check(fits, f"{node['class']} is not what it has to be")
        value = cls.__new__(cls)
        self._know(node["number"], value)
        return value

    def _object(self, node):
        value = self._new(node, BaseEstimator)
        check(not isinstance(value, tuple | NearestNeighbors), "an object of its own")
        state = self._state(node, type(value))
        if isinstance(value, BaseEstimator):
            value.__setstate__(state)
        else:
            vars(value).update(state)
        if node["class"] == "skad.neighbors._search.NeighborSearch":
            check(value.graph is None, "a graph")
        return value

    def _neighbors(self, node):
        value = self._new(node, NearestNeighbors)
        state = self._state(node, type(value))
        rows = state.pop("_fit_X")
        check(isinstance(rows, np.ndarray) and rows.dtype.kind == "f", "other rows")
        fits = state["metric"] in METRICS and state.get("metric_params") is None
        check(fits, "a metric without a name")
        value.__init__(**state)
        return value.fit(rows)

    def _module(self, node):
        import torch

        value = self._new(node, torch.nn.Module)
        torch.nn.Module.__init__(value)
        state = self._state(node, type(value))
        kinds = (torch.nn.Parameter, torch.Tensor, torch.nn.Module)
        for part, kind in zip(MODULE_PARTS, kinds, strict=True):
            named = state.pop(part)
            fits = isinstance(named, dict) and all(
                isinstance(name, str) and (each is None or isinstance(each, kind))
                for name, each in named.items()
            )
            check(fits, f"other {part.strip('_')} of {type(value).__name__}")
            vars(value)[part].update(named)
        reserved = set(vars(value)) - {"training", "_non_persistent_buffers_set"}
        check(not reserved & set(state), "hooks")
        vars(value).update(state)
        if isinstance(value, torch.nn.RNNBase):
            value._init_flat_weights()
        return value

    def _tree(self, node):
        """Return a tree of scikit-learn whose nodes lead downwards to leaves."""
        n_features, n_outputs = node["n_features"], node["n_outputs"]
        depth, n_classes = node["max_depth"], self.decode(node["n_classes"])
        fields = {name: self.decode(each) for name, each in node["nodes"].items()}
        values = self.decode(node["values"])
        for number in (n_features, n_outputs, depth):
            check(type(number) is int and 0 <= number < 2**31, "an odd tree")
        # those of isolation forests, whatever else scikit-learn's trees may be
        fits = n_outputs == 1 and n_classes.dtype == np.intp
        check(fits and n_classes.shape == (1,) and n_classes[0] == 1, "other classes")
        tree = tree_class()(n_features, n_classes, n_outputs)
        dtype = tree.__getstate__()["nodes"].dtype
        check(set(fields) == set(dtype.names), "a tree of another scikit-learn")
        n = len(fields["left_child"])
        nodes = np.zeros(n, dtype=dtype)
        for name in dtype.names:
            fits = fields[name].shape == (n,) and fields[name].dtype == dtype[name]
            check(fits, f"a tree with other {name}")
            nodes[name] = fields[name]
        left, right = nodes["left_child"], nodes["right_child"]
        inner, own = left != -1, np.arange(n)
        for child in (left, right):
            check(((child > own) & (child < n))[inner].all(), "a tree with a loop")
            check((child[~inner] == -1).all(), "half a leaf")
        feature = nodes["feature"][inner]
        check(((feature >= 0) & (feature < n_features)).all(), "a feature beyond")
        fits = values.shape == (n, 1, 1) and values.dtype == np.float64
        check(n > 0 and fits, "a tree without nodes")
        tree.__setstate__(
            {"max_depth": depth, "node_count": n, "nodes": nodes, "values": values}
        )
        return tree

    _KINDS = {
        "float": _float,
        "dict": _dict,
        "ordered": _dict,
        "tuple": lambda self, node: tuple(self._items(node)),
        "size": _size,
        "named": _named,
        "set": lambda self, node: set(self._items(node)),
        "frozenset": lambda self, node: frozenset(self._items(node)),
        "slice": lambda self, node: slice(*self._items(node)),
        "path": lambda self, node: pathlib.Path(str(node["value"])),
        "dtype": _dtype,
        "name": lambda self, node: find(node["value"], self.trusted),
        "torch dtype": _torch_dtype,
        "device": _device,
        "scalar": _scalar,
        "str_": lambda self, node: np.str_(node["value"]),
        "objects": _objects,
        "array": _array,
        "tensor": _array,
        "parameter": _array,
        "random": _random,
        "sparse": _sparse,
        "object": _object,
        "neighbors": _neighbors,
        "module": _module,
        "tree": _tree,
    }
