"""Samples that are made when they are asked for look like the tensor of all samples."""

import numpy as np
import pytest
import torch

from skad._samples import LazySamples, Maps, Windows


def maps():
    pictures = np.arange(60.0).reshape(10, 3, 2, 1)
    return Maps(pictures, lambda x: 2 * x.flatten(1))


def windows():
    starts = torch.tensor([0, 1, 2, 7, 8, 9, 12, 20, 21, 22])
    return Windows(torch.arange(60.0).reshape(30, 2), starts, 4)


class Squares(LazySamples):
    """A third kind, with the little that it has to state."""

    def __init__(self, n):
        super().__init__(torch.arange(n), (1,), torch.device("cpu"))

    @property
    def nbytes(self):
        return 4 * len(self)

    def _make(self, places):
        return places[:, None].float() ** 2


@pytest.fixture(params=[maps, windows, lambda: Squares(10)])
def samples(request):
    return request.param()


def same(samples, tensor):
    return samples.shape == tensor.shape and torch.equal(samples[:], tensor)


def test_rows_are_those_of_the_tensor(samples):
    x = samples[:]
    assert len(samples) == len(x) == 10
    assert samples.shape == x.shape
    assert samples.device == x.device
    assert len(x.unique(dim=0)) == 10
    for rows in (slice(2, 5), slice(8, 20), torch.tensor([7, 0, 7]), 3, 0, 9, -1):
        assert torch.equal(samples[rows], x[rows])


def test_some_of_the_samples_are_samples(samples):
    x, rows = samples[:], torch.tensor([9, 2, 4, 0])
    some = samples.subset(rows)
    assert type(some) is type(samples)
    assert same(some, x[rows])
    assert same(some.subset(torch.tensor([3, 1])), x[rows][[3, 1]])
    assert same(samples, x)
    assert some.nbytes < samples.nbytes


def test_samples_in_float32_on_the_host_are_the_same(samples):
    x = samples[:]
    assert same(samples.float(), x.float())
    assert same(samples.to("cpu"), x)
    some = samples.subset(torch.tensor([5, 1])).float().to("cpu")
    assert same(some, x[[5, 1]])


def test_windows_become_float32():
    double = Windows(torch.zeros(9, 1, dtype=torch.float64), torch.arange(5), 3)
    assert double[:].dtype == torch.float64
    assert double.float()[:].dtype == double.float().subset([1])[:].dtype
    assert double.float()[:].dtype == torch.float32
