"""Copies of networks in other dtypes and on other devices, kept while they hold.

A network computes in the dtype, and on the device, of what it is given, and stays as it
is. Copies belong to the network: they go with it, they are no part of its state, and
when a weight changes all of them go.
"""

import copy
import weakref
from collections import OrderedDict

import torch

# Of each network in use, the state of its weights and its copies in that state.
_KEPT = weakref.WeakKeyDictionary()


def converted(network, dtype, device, *, channels_last=False, compiled=False):
    """Return a network in a dtype on a device: itself, or a copy that is kept.

    Parameters
    ----------
    network : Module
        Is never changed. A weight that is written through `weight.data` does not tell
        of it, and leaves the copies as they were.
    dtype : torch.dtype
        Of its floating-point parameters and buffers.
    device : torch.device or str
        Where it computes.
    channels_last : bool, default=False
        Whether it is a copy whose weights lie with the channels last.
    compiled : bool, default=False
        Whether it is a copy that is compiled.
    """
    device = torch.device(device)
    if device.index is None and device.type != "cpu":
        device = torch.empty(0, device=device).device  # with its number
    tensors = [
        one
        for module in _modules(network)
        for one in (*module._parameters.values(), *module._buffers.values())
        if one is not None
    ]
    fits = all(
        one.device == device and (one.dtype == dtype or not one.is_floating_point())
        for one in tensors
    )
    if fits and not (channels_last or compiled):
        return network
    # those of inference mode count no versions: nothing outside it may write to them
    state = [
        (one.data_ptr(), None if one.is_inference() else one._version)
        for one in tensors
    ]
    known, copies = _KEPT.get(network, (None, None))
    if known != state:
        copies = {}
        _KEPT[network] = state, copies
    key = dtype, device, channels_last, compiled
    if key not in copies:
        made = copied(network).to(device=device, dtype=dtype)
        if channels_last:
            made = made.to(memory_format=torch.channels_last)
        if compiled:
            made.compile()
        copies[key] = made
    return copies[key]


def _modules(network):
    """Return what `network.modules()` does, without the names, which take longest."""
    found, waiting = {}, [network]
    while waiting:
        module = waiting.pop()
        if module is not None and id(module) not in found:
            found[id(module)] = module
            waiting.extend(module._modules.values())
    return found.values()


def copied(network):
    """Return a deep copy.

    Most of what a module consists of are dicts of hooks that are empty; they are made
    anew, since `copy.deepcopy` takes longer for them than for all else. What a forward
    pass left with the module, such as the last activations, comes without its graph,
    of which there is no copy.
    """
    made = {}
    for module in _modules(network):
        for value in vars(module).values():
            if type(value) is OrderedDict and not value:
                made[id(value)] = OrderedDict()
            else:
                made.update(_without_graphs(value))
    return copy.deepcopy(network, made)


def _without_graphs(value):
    """Yield (id, copy) of the results of operations in `value` and its containers."""
    if isinstance(value, torch.Tensor):
        if not value.is_leaf:
            yield id(value), value.detach().clone()
    elif type(value) in (list, tuple, dict):
        for part in value.values() if type(value) is dict else value:
            yield from _without_graphs(part)
