"""Every detector on a GPU: tensors stay there, and the numbers are the CPU's."""

import pickle

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from sklearn.metrics import roc_auc_score

import skad
from tests._instances import CHEAP, excused, identify, instances
from tests.test_contract import PUBLIC, fitted, seeded

pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="no GPU on this machine"
)
every_setting = pytest.mark.parametrize(
    "detector",
    [one for one in instances() if not excused(one, "tensors")],
    ids=identify,
)


@every_setting
def test_cuda_tensors_stay_on_the_gpu(detector, blobs):
    train, normal, _ = blobs
    plain = fitted(detector, blobs)
    on_gpu = seeded(detector).fit(torch.from_numpy(train).cuda())
    # a network trained on a GPU draws other numbers there, so it is another network
    fits = (plain,) if hasattr(plain, "net_") else (plain, on_gpu)
    for method in PUBLIC:
        expected = getattr(plain, method)(normal)
        for fit_on in fits:
            found = getattr(fit_on, method)(torch.from_numpy(normal).cuda())
            assert found.is_cuda
            scale = np.abs(expected).max()
            assert_allclose(found.cpu(), expected, rtol=1e-4, atol=1e-5 * scale)
        assert isinstance(getattr(on_gpu, method)(normal), np.ndarray)
        assert getattr(on_gpu, method)(torch.from_numpy(normal).cuda()).is_cuda


@every_setting
def test_device_cuda_takes_arrays(detector, blobs):
    if "device" not in detector.get_params():
        pytest.skip("computes where its input lives")
    train, normal, anomalies = blobs
    on_gpu = seeded(detector).set_params(device="cuda").fit(train)
    assert on_gpu.device_ == "cuda"
    scores = on_gpu.score_samples(normal)
    assert isinstance(scores, np.ndarray)
    if hasattr(on_gpu, "net_"):
        if excused(detector, "sign"):
            pytest.skip(excused(detector, "sign"))
        rows = np.concatenate([normal, anomalies])
        labels = np.repeat([1, -1], [len(normal), len(anomalies)])
        assert roc_auc_score(labels, on_gpu.score_samples(rows)) > 0.8
        return
    expected = fitted(detector, blobs).score_samples(normal)
    assert_allclose(scores, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize(
    "name",
    [name for name, cls in skad.all_detectors() if getattr(cls, "_uses_labels", False)],
)
def test_labels_follow_the_rows(name, blobs):
    train, normal, anomalies = blobs
    rows = np.concatenate([train, anomalies[:10]])
    y = np.repeat([0, 1, -1], [200, len(train) - 200, 10])
    detector = seeded(getattr(skad, name)(**CHEAP.get(name, {})))
    if "device" in detector.get_params():
        detector.set_params(device="cuda").fit(rows, y)
        assert np.isfinite(detector.score_samples(normal)).all()
    detector.fit(torch.from_numpy(rows).cuda(), y)
    assert detector.score_samples(torch.from_numpy(normal).cuda()).is_cuda


@every_setting
def test_nothing_stays_in_gpu_memory(detector, blobs):
    X = torch.from_numpy(blobs[0]).cuda()

    def use():
        fresh = seeded(detector).fit(X)
        fresh.score_samples(X)
        fresh.transform(X)

    use()  # loads libraries and their workspaces
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    for _ in range(3):
        use()
    torch.cuda.synchronize()
    assert torch.cuda.memory_allocated() <= before


@every_setting
def test_pickles_hold_no_gpu_tensor(detector, blobs):
    on_gpu = seeded(detector).fit(torch.from_numpy(blobs[0]).cuda())
    again = pickle.loads(pickle.dumps(on_gpu))
    found = again.score_samples(blobs[1])
    assert_allclose(found, on_gpu.score_samples(blobs[1]), rtol=1e-6)
    parts = [
        vars(again),
        *(vars(v) for v in vars(again).values() if hasattr(v, "__dict__")),
    ]
    for part in parts:
        assert not [
            name for name, value in part.items() if getattr(value, "is_cuda", 0)
        ]


AROUND = [
    name
    for name, method in skad.all_detectors()
    if "classifier" in method._parameter_constraints
]
# Those that ask once a block whether something holds for all of its rows.
ONE_FLAG = {"KNNOOD", "OODDetector"}


@pytest.mark.parametrize("name", AROUND)
def test_classifiers_are_scored_without_a_copy_per_block(name, monkeypatch):
    """What was learned goes to the GPU once a call; rows and features stay there."""
    torch.manual_seed(0)
    layers = torch.nn.Linear(6, 16), torch.nn.ReLU(), torch.nn.Linear(16, 4)
    net = torch.nn.Sequential(*layers).double().cuda()
    settings = {"n_neighbors": 5} if name in ("KNNOOD", "NNGuide") else {}
    X = np.random.default_rng(0).normal(size=(1000, 6))
    detector = getattr(skad, name)(net, **settings).fit(X, np.arange(1000) % 4)
    rows, seen = torch.from_numpy(X).cuda(), []
    detector.classifier_.register_forward_pre_hook(
        lambda _, inputs: seen.append(inputs[0].device.type)
    )

    def copies(block):
        monkeypatch.setattr("skad.base.block_rows", lambda *_: block)
        detector.score_samples(rows)  # loads what the kernels need
        seen.clear()
        kinds = torch.profiler.ProfilerActivity
        with torch.profiler.profile(activities=[kinds.CPU, kinds.CUDA]) as profile:
            scores = detector.score_samples(rows)
            torch.cuda.synchronize()
        assert scores.is_cuda
        assert set(seen) == {"cuda"}
        assert len(seen) >= len(rows) // block
        to_or_from_the_host = "Memcpy HtoD", "Memcpy DtoH"
        return sum(e.name.startswith(to_or_from_the_host) for e in profile.events())

    once, in_blocks = copies(1000), copies(50)
    assert once > 0  # whether all values are finite
    assert in_blocks <= once + (19 if name in ONE_FLAG else 0)
