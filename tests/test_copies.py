"""Copies of networks in other dtypes: kept as long as they hold, and no longer."""

import copy
import gc
import pickle
import weakref

import numpy as np
import pytest
import torch
from torch import nn

from skad._copies import converted
from skad.embedding._module_tail import ModuleTail


@pytest.fixture
def network():
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)).eval()


def double(network, **options):
    return converted(network, torch.float64, "cpu", **options)


def test_a_network_that_fits_is_taken_as_it_is(network):
    assert converted(network, torch.float32, "cpu") is network
    assert converted(network, torch.float32, torch.device("cpu")) is network
    plain = nn.ReLU()
    assert double(plain) is plain


def test_copies_of_all_dtypes_are_kept_side_by_side(network):
    first, half = double(network), converted(network, torch.bfloat16, "cpu")
    assert double(network) is first
    assert converted(network, torch.bfloat16, "cpu") is half
    assert {p.dtype for p in network.parameters()} == {torch.float32}
    assert {p.dtype for p in first.parameters()} == {torch.float64}
    assert first[1].num_batches_tracked.dtype == torch.int64
    x = torch.randn(5, 3)
    assert torch.allclose(first(x.double()).float(), network(x), atol=1e-5)


def test_another_device_is_another_copy(network):
    meta = converted(network, torch.float32, "meta")
    assert meta is not network
    assert next(meta.parameters()).device.type == "meta"
    assert converted(network, torch.float32, "meta") is meta


def _in_place(network):
    with torch.no_grad():
        network[0].weight.mul_(2)


def _loaded(network):
    network.load_state_dict({k: v + 1 for k, v in network.state_dict().items()})


def _replaced(network):
    network[2].bias = nn.Parameter(torch.ones(2))


def _data(network):
    network[2].weight.data = torch.ones(2, 4)


def _buffer(network):
    network[1].running_mean += 1


@pytest.mark.parametrize("change", [_in_place, _loaded, _replaced, _data, _buffer])
def test_copies_go_when_weights_or_buffers_change(network, change):
    x = torch.randn(5, 3)
    first, half = double(network), converted(network, torch.bfloat16, "cpu")
    change(network)
    assert double(network) is not first
    assert converted(network, torch.bfloat16, "cpu") is not half
    assert torch.allclose(double(network)(x.double()).float(), network(x), atol=1e-5)


def test_weights_of_inference_mode_are_copied():
    with torch.inference_mode():
        network = nn.Linear(3, 2)
    copied = double(network)
    assert copied.weight.dtype == torch.float64
    assert double(network) is copied


def test_copies_go_with_their_network():
    network = nn.Linear(3, 2)
    made = weakref.ref(double(network))
    assert made() is not None
    del network
    gc.collect()
    assert made() is None


def test_copies_are_no_part_of_the_state(network):
    size = len(pickle.dumps(network))
    first = double(network)
    assert len(pickle.dumps(network)) == size
    assert double(copy.deepcopy(network)) is not first


def test_copies_share_nothing_that_can_change(network):
    network[1].register_forward_hook(lambda module, inputs, output: output + 1)
    made = double(network)

    def dicts(module):
        parts = [vars(part) for part in module.modules()]
        return {id(v) for part in parts for v in part.values() if isinstance(v, dict)}

    assert dicts(made)
    assert not dicts(made) & dicts(network)
    x = torch.randn(5, 3)
    assert torch.allclose(made(x.double()).float(), network(x), atol=1e-5)
    made[0].register_forward_hook(lambda module, inputs, output: 0 * output)
    assert network[0](x).any()


def test_channels_last_and_compiled_are_copies_of_their_own(monkeypatch):
    compiled = []
    monkeypatch.setattr(nn.Module, "compile", lambda self: compiled.append(self))
    network = nn.Conv2d(3, 4, 3)
    last = converted(network, torch.float32, "cpu", channels_last=True)
    assert last is not network
    assert last.weight.is_contiguous(memory_format=torch.channels_last)
    assert not network.weight.is_contiguous(memory_format=torch.channels_last)
    fast = converted(network, torch.float32, "cpu", compiled=True)
    assert compiled == [fast]
    assert fast is not network
    assert converted(network, torch.float32, "cpu", compiled=True) is fast
    assert converted(network, torch.float32, "cpu", channels_last=True) is last


def test_a_classifier_is_copied_once(network):
    rows = np.random.default_rng(0).normal(size=(6, 3))
    tail = ModuleTail(network, rows.astype(np.float32), None, "classifier")
    assert tail.matching(rows.astype(np.float32)) is tail
    assert tail.matching(rows).module is tail.matching(rows).module
    assert next(tail.matching(rows).module.parameters()).dtype == torch.float64
    assert tail.matching(rows).head[0].dtype == torch.float64
