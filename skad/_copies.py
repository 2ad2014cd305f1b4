"""Copies of networks in other dtypes and on other devices, kept while they hold.

A network computes in the dtype, and on the device, of what it is given, and stays as it
is. Copies belong to the network: they go with it, they are no part of its state, and
when a weight changes all of them go.
"""

import copy
import weakref
from itertools import chain

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
    if not (channels_last or compiled) and _is_in(network, dtype, device):
        return network
    state = [_version(one) for one in _tensors(network)]
    known, copies = _KEPT.get(network, (None, None))
    if known != state:
        copies = {}
        _KEPT[network] = state, copies
    key = dtype, device, channels_last, compiled
    if key not in copies:
        made = copy.deepcopy(network).to(device=device, dtype=dtype)
        if channels_last:
            made = made.to(memory_format=torch.channels_last)
        if compiled:
            made.compile()
        copies[key] = made
    return copies[key]


def _tensors(network):
    return chain(network.parameters(), network.buffers())


def _is_in(network, dtype, device):
    for one in _tensors(network):
        if one.is_floating_point() and one.dtype != dtype:
            return False
        # "cuda" without a number is any of them
        own = one.device
        if own != device and (own.type, None) != (device.type, device.index):
            return False
    return True


def _version(tensor):
    """Return what differs once a tensor is replaced or written to."""
    # those of inference mode are not counted, and nothing outside it may write to them
    count = None if tensor.is_inference() else tensor._version
    return tensor.data_ptr(), count
