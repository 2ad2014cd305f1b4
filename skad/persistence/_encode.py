"""From a fitted detector to plain JSON and arrays.

Scalars, strings and lists are what they are in JSON; everything else is an object with
one of the kinds below as its "is". Objects and arrays that are met twice are written
once, and the second time by their number or name.
"""

import collections
import pathlib
import sys
from types import FunctionType

import numpy as np
from numpy.random import RandomState
from scipy.sparse import csr_array
from sklearn.base import BaseEstimator
from sklearn.neighbors import NearestNeighbors

from skad._array import is_torch
from skad._sklearn import tree_class
from skad.persistence._fits import check_parameters
from skad.persistence._names import PARTS, name_of

# What safetensors holds of NumPy; other dtypes are stored as bits of one of them.
PLAIN = {"bool", "float16", "float32", "float64"} | {
    f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)
}
BITS = {"bfloat16": "int16", "complex64": "float32", "complex128": "float64"}

# What is numbered, so that it can be met again.
REFERRED = {
    *("objects", "array", "tensor", "parameter", "random"),
    *("object", "neighbors", "module", "tree", "sparse"),
}

# Of a module, beside its plain attributes.
MODULE_PARTS = ("_parameters", "_buffers", "_modules")


def n_bytes(value):
    """Return the bytes of an array or tensor, 0 for anything else."""
    return value.nbytes if isinstance(value, np.ndarray) or is_torch(value) else 0


class Encoder:
    """Writes one detector: the structure for JSON, `arrays` for safetensors.

    `more` counts the bytes that are made from the file beside `arrays`.
    """

    def __init__(self, trusted=()):
        self.trusted, self.arrays, self.more = tuple(trusted), {}, 0
        self._met = {}  # id to (what is written for it, the object, kept alive)

    def encode(self, value, path):
        """Return what JSON can hold of `value`, which stands at `path`."""
        if value is None or isinstance(value, bool | str):
            return value
        if type(value) in (int, float):
            if type(value) is float and not np.isfinite(value):
                return {"is": "float", "value": repr(value)}
            return value
        if type(value) is list:
            return [self.encode(v, f"{path}[{i}]") for i, v in enumerate(value)]
        plain = self._plain(value, path)
        if plain is not None:
            return plain
        if id(value) in self._met:
            self.more += n_bytes(value)
            return self._met[id(value)][0]
        if isinstance(value, np.ndarray) and self._are_objects(value):
            return self._objects(value, path)
        if isinstance(value, np.ndarray) or is_torch(value):
            return self._array(value, path)
        return self._object(value, path)

    # ------------------------------------------------------------------------- values

    def _plain(self, value, path):
        kind = type(value)
        if isinstance(value, np.generic):
            return self._scalar(value, path)
        if kind in (dict, collections.OrderedDict):
            is_ = "dict" if kind is dict else "ordered"
            items = [
                [self.encode(k, f"{path} (a key)"), self.encode(v, f"{path}[{k!r}]")]
                for k, v in value.items()
            ]
            return {"is": is_, "items": items}
        if isinstance(value, tuple):
            return self._tuple(value, path)
        if kind in (set, frozenset):
            items = [self.encode(v, path) for v in sorted(value, key=repr)]
            return {"is": kind.__name__, "items": items}
        if kind is slice:
            items = [value.start, value.stop, value.step]
            return {"is": "slice", "items": [self.encode(v, path) for v in items]}
        if isinstance(value, pathlib.PurePath):
            return {"is": "path", "value": str(value)}
        if isinstance(value, np.dtype):
            return {"is": "dtype", "value": value.str}
        if isinstance(value, type | FunctionType):
            return {"is": "name", "value": self._name(value, path)}
        torch = sys.modules.get("torch")
        if torch is not None and isinstance(value, torch.dtype | torch.device):
            if kind is torch.device:
                return {"is": "device", "value": str(value)}
            return {"is": "torch dtype", "value": str(value).removeprefix("torch.")}
        return None

    def _scalar(self, value, path):
        if value.dtype.kind not in "biufc":
            if isinstance(value, np.str_):
                return {"is": "str_", "value": str(value)}
            raise self._refusal(value, path)
        bits = value.tobytes().hex()
        return {"is": "scalar", "dtype": value.dtype.str, "value": bits}

    def _tuple(self, value, path):
        items = [self.encode(v, f"{path}[{i}]") for i, v in enumerate(value)]
        kind = type(value)
        if kind is tuple:
            return {"is": "tuple", "items": items}
        if kind.__module__ == "torch" and kind.__name__ == "Size":
            return {"is": "size", "items": items}
        return {"is": "named", "class": self._name(kind, path), "items": items}

    @staticmethod
    def _are_objects(value):
        return value.dtype.kind in "OUS"

    def _objects(self, value, path):
        """Return an array of strings or of Python's objects."""
        items = [self.encode(v, path) for v in value.ravel().tolist()]
        self.more += value.nbytes
        dtype, shape = value.dtype.str, list(value.shape)
        return self._keep(
            value, {"is": "objects", "dtype": dtype, "shape": shape, "items": items}
        )

    def _array(self, value, path):
        """Return an array or a tensor, in the order its elements have in memory."""
        node = {"is": "array"}
        if is_torch(value):
            import torch

            tensor = value.detach().cpu()
            if tensor.layout is not torch.strided:
                raise self._refusal(value, path)
            node["is"] = "tensor"
            if isinstance(value, torch.nn.Parameter):
                node |= {"is": "parameter", "grad": value.requires_grad}
            dtype = str(tensor.dtype).removeprefix("torch.")
            if dtype == "bfloat16":
                tensor = tensor.view(torch.int16)
            array = tensor.resolve_conj().numpy()
        else:
            array, dtype = np.asarray(value), value.dtype.name
        if dtype not in PLAIN and dtype not in BITS:
            raise self._refusal(value, path)
        array = array.astype(array.dtype.newbyteorder("="), copy=False)
        order = sorted(range(array.ndim), key=lambda axis: -abs(array.strides[axis]))
        if order != list(range(array.ndim)) and array.size:
            straight = array.transpose(order)
            if straight.flags.c_contiguous:
                node["order"], array = order, straight
        array = np.ascontiguousarray(array).reshape(array.shape)
        if dtype in BITS and dtype != "bfloat16":
            array = array.view(BITS[dtype]).reshape(*array.shape, 2)
        name = f"a{len(self.arrays)}"
        self.arrays[name] = array
        return self._keep(value, node | {"name": name, "dtype": dtype})

    # ------------------------------------------------------------------------ objects

    def _object(self, value, path):
        if type(value) is csr_array:
            parts = (value.data, value.indices, value.indptr)
            items = [self.encode(part, path) for part in parts]
            shape = list(map(int, value.shape))
            return self._keep(value, {"is": "sparse", "shape": shape, "items": items})
        if isinstance(value, RandomState):
            kind, *state = value.get_state(legacy=True)
            if kind != "MT19937":
                raise self._refusal(value, path)
            items = [self.encode(part, path) for part in state]
            return self._keep(value, {"is": "random", "items": items})
        if isinstance(value, tree_class()):
            return self._tree(value, path)
        number = len(self._met)
        self._met[id(value)] = ({"is": "again", "number": number}, value)
        return {"number": number, **self._with_state(value, path)}

    def _with_state(self, value, path):
        name = self._name(type(value), path, value)
        if isinstance(value, NearestNeighbors):
            # its tree is built again from the same rows
            state = {**value.get_params(deep=False), "_fit_X": value._fit_X}
            return {"is": "neighbors", "class": name, **self._state(state, path)}
        torch = sys.modules.get("torch")
        if torch is not None and isinstance(value, torch.nn.Module):
            return {"is": "module", "class": name, **self._module(value, path)}
        known = name in PARTS or isinstance(value, BaseEstimator)
        if not known and not any(type(value) is each for each in self.trusted):
            raise self._refusal(value, path)
        if name == "skad.neighbors._search.NeighborSearch" and value.graph is not None:
            raise ValueError(
                f"{path} is a graph of pynndescent, which cannot be saved: fit with "
                "algorithm='auto', or pickle the detector."
            )
        if isinstance(value, BaseEstimator):
            check_parameters(value)
        state = value.__getstate__() or {}
        return {"is": "object", "class": name, **self._state(state, path)}

    def _state(self, state, path):
        return {"state": {k: self.encode(v, f"{path}.{k}") for k, v in state.items()}}

    def _module(self, module, path):
        import torch

        fresh = torch.nn.Module()
        state = {}
        recurrent = isinstance(module, torch.nn.RNNBase)
        for name, value in vars(module).items():
            if recurrent and name in ("_flat_weights", "_flat_weight_refs"):
                continue  # references to the parameters, made again when loaded
            own = name in MODULE_PARTS or name == "training"
            own = own or name == "_non_persistent_buffers_set"
            if name in vars(fresh) and not own:
                if value and value is not True:
                    raise ValueError(
                        f"{path} has {name.strip('_').replace('_', ' ')}, which cannot "
                        "be saved without pickle."
                    )
                continue
            state[name] = dict(value) if name in MODULE_PARTS else value
        return self._state(state, path)

    def _tree(self, tree, path):
        _, (n_features, n_classes, n_outputs), state = tree.__reduce__()
        nodes = state["nodes"]
        node = {
            "is": "tree",
            "n_features": int(n_features),
            "n_outputs": int(n_outputs),
            "max_depth": int(state["max_depth"]),
            "n_classes": self.encode(np.asarray(n_classes), path),
            "nodes": {
                name: self.encode(nodes[name].copy(), path)
                for name in nodes.dtype.names
            },
            "values": self.encode(state["values"], path),
        }
        return self._keep(tree, node)

    # ------------------------------------------------------------------------- common

    def _keep(self, value, node):
        """Return `node`; from now on `value` is written as what it was."""
        number = len(self._met)
        self._met[id(value)] = ({"is": "again", "number": number}, value)
        return {"number": number, **node}

    def _name(self, member, path, value=None):
        name = name_of(member, self.trusted)
        if name is None:
            raise self._refusal(member if value is None else value, path)
        return name

    @staticmethod
    def _refusal(value, path):
        kind = value if isinstance(value, type | FunctionType) else type(value)
        known = f"{kind.__module__}.{kind.__qualname__}"
        what = "is" if kind is value else "holds a"
        return ValueError(
            f"{path} {what} {known}, which cannot be saved without pickle: skad.load "
            "could not make it without running code of its own. Where it is a class of "
            "yours, pass it to both functions as trusted=[...]."
        )
