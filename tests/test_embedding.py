"""Backbones, their files of weights, and the features of patches."""

import os
import pickle
import zlib

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.metrics import roc_auc_score
from sklearn.utils.estimator_checks import check_estimator
from torch import nn
from torch.nn import functional as F  # noqa: N812

from skad.embedding import PatchEmbedding
from skad.embedding._backbones import Taps, load_resnet, resolve
from skad.embedding._gabor import LAYERS, GaborBank, gabor_filters
from skad.embedding._resnet import (
    ARCHITECTURES,
    fold_batch_norms,
    random_arrays,
    skeleton,
)
from skad.embedding._taps import join_maps
from skad.embedding._weights import read_arrays
from tests.test_sklearn import NEVER_YIELDED

WEIGHTS = "resnet18_conv1_to_layer3_bnfolded.npz"
MOBILE = "mobilenetv2_tf2ptq.npz"


def pictures(*shape, dtype=np.float64, seed=0):
    return np.random.default_rng(seed).random(shape).astype(dtype)


def lived_in(name, layers, seed=0):
    """Return a ResNet in double precision whose batch norms are not the identity."""
    rng = np.random.default_rng(seed)
    network = skeleton(name, layers, norm=True).to_empty(device="cpu").double().eval()
    for part in network.modules():
        if isinstance(part, nn.Conv2d):
            fan = part.out_channels * part.kernel_size[0] ** 2
            values = rng.normal(size=part.weight.shape) * (2 / fan) ** 0.5
            part.weight.data = torch.tensor(values)
        if isinstance(part, nn.BatchNorm2d):
            size = part.num_features
            part.weight.data = torch.tensor(rng.uniform(0.5, 1.5, size))
            part.bias.data = torch.tensor(rng.normal(size=size))
            part.running_mean = torch.tensor(rng.normal(size=size))
            part.running_var = torch.tensor(rng.uniform(0.5, 2.0, size))
            part.num_batches_tracked.fill_(7)
    return network.requires_grad_(False)


def arrays_of(network):
    return {name: value.numpy() for name, value in network.state_dict().items()}


# ------------------------------------------------------------------------------ ResNets


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_folded_batch_norms_give_the_same_maps(name):
    network = lived_in(name, ("layer1", "layer3"))
    folded = skeleton(name, ("layer1", "layer3"), norm=False)
    load_resnet(name, folded, arrays_of(network), "'a file'")
    folded.requires_grad_(False)
    assert not any("running" in key for key in folded.state_dict())
    x = torch.tensor(pictures(2, 3, 45, 36))
    for ours, theirs in zip(folded(x), network(x), strict=True):
        assert_allclose(ours, theirs, atol=1e-10 * float(theirs.abs().max()))


def test_a_folded_batch_norm_is_the_formula():
    rng = np.random.default_rng(0)
    weight, x = rng.normal(size=(2, 3, 1, 1)), rng.normal(size=3)
    gamma, beta, mean, variance = rng.uniform(1, 2, size=(4, 2))
    folded = fold_batch_norms(
        {
            "a.downsample.0.weight": weight,
            "a.downsample.1.weight": gamma,
            "a.downsample.1.bias": beta,
            "a.downsample.1.running_mean": mean,
            "a.downsample.1.running_var": variance,
        }
    )
    assert set(folded) == {"a.downsample.0.weight", "a.downsample.0.bias"}
    expected = gamma * (weight[..., 0, 0] @ x - mean) / np.sqrt(variance + 1e-5) + beta
    got = folded["a.downsample.0.weight"][..., 0, 0] @ x + folded["a.downsample.0.bias"]
    assert_allclose(got, expected)


@pytest.mark.parametrize(
    ("name", "layer", "n_parameters"),
    [
        # torchvision's counts without the classifier: 11,689,512 - 513,000 ...
        ("resnet18", "layer4", 11_176_512),
        ("resnet34", "layer4", 21_284_672),
        ("resnet50", "layer4", 23_508_032),
        ("wide_resnet50_2", "layer4", 66_834_240),
        ("wide_resnet50_2", "layer3", 24_862_528),
    ],
)
def test_sizes_are_torchvisions(name, layer, n_parameters):
    network = skeleton(name, (layer,), norm=True)
    assert sum(value.numel() for value in network.parameters()) == n_parameters


def test_names_are_torchvisions():
    names = set(skeleton("resnet50", ("layer2",), norm=True).state_dict())
    assert {
        "conv1.weight",
        "bn1.running_var",
        "layer1.0.conv3.weight",
        "layer1.0.downsample.0.weight",
        "layer1.0.downsample.1.bias",
        "layer2.3.bn2.weight",
    } <= names
    assert not [name for name in names if name.startswith("layer3")]


def test_layers_come_in_the_order_they_are_named():
    network = lived_in("resnet18", ("layer2", "layer1"))
    shapes = [tuple(each.shape) for each in network(torch.zeros(1, 3, 64, 48).double())]
    assert shapes == [(1, 128, 8, 6), (1, 64, 16, 12)]


def naive_resnet18(arrays, x):
    """Return the maps of layer1 to layer3, straight from a folded file."""

    def convolve(name, x, stride):
        weight = torch.tensor(arrays[f"{name}.weight"]).to(x)
        bias = torch.tensor(arrays[f"{name}.bias"]).to(x)
        return F.conv2d(x, weight, bias, stride, weight.shape[-1] // 2)

    x = F.max_pool2d(convolve("conv1", x, 2).relu(), 3, 2, 1)
    maps = []
    for layer in (1, 2, 3):
        for block in (0, 1):
            stride = 2 if layer > 1 and block == 0 else 1
            name = f"layer{layer}.{block}"
            out = convolve(f"{name}.conv1", x, stride).relu()
            out = convolve(f"{name}.conv2", out, 1)
            if stride == 2:
                x = convolve(f"{name}.downsample.0", x, 2)
            x = (out + x).relu()
        maps.append(x)
    return maps


def test_the_given_resnet18(shared):
    file = shared / "weights" / WEIGHTS
    X = pictures(2, 40, 52, 3)
    embedding = PatchEmbedding(
        "resnet18", ("layer1", "layer2", "layer3"), weights=file
    ).fit(X)
    embedding._keep_dtype(True)  # in float64, as the plain version computes
    x = torch.tensor(X).permute(0, 3, 1, 2)
    mean = torch.tensor([0.485, 0.456, 0.406]).double().view(3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).double().view(3, 1, 1)
    expected = naive_resnet18(np.load(file), (x - mean) / std)
    maps = embedding.feature_maps(torch.tensor(X))
    for ours, theirs in zip(maps, expected, strict=True):
        assert_allclose(ours, theirs, atol=1e-6 * float(theirs.abs().max()))


# -------------------------------------------------------------------------- MobileNetV2


def naive_mobilenet(arrays, x, n_convolutions):
    """Return the map behind a number of convolutions, straight from the file."""
    short = None
    for name in sorted({name.rsplit(".", 1)[0] for name in arrays})[:n_convolutions]:
        weight = torch.tensor(arrays[f"{name}.weight"]).to(x)
        bias = torch.tensor(arrays[f"{name}.bias"]).to(x)
        number, kind = name.split(".")
        stride = 2 if number in ("00", "04", "10", "19", "40") else 1
        expands = kind == "conv" and len(weight) > weight.shape[1] and number != "00"
        short = x if expands else short
        if weight.shape[-1] == 3:
            x = F.pad(x, (0, 1, 0, 1) if stride == 2 else (1, 1, 1, 1))
        x = F.conv2d(x, weight, bias, stride, groups=len(weight) if kind == "dw" else 1)
        if kind == "conv" and len(weight) < weight.shape[1]:  # no ReLU6 when it narrows
            x = x + short if short is not None and short.shape == x.shape else x
        else:
            x = x.clamp(0, 6)
    return x


def test_the_given_mobilenet(shared):
    file = shared / "weights" / MOBILE
    X = pictures(1, 64, 96, 3)
    layers = "group2", "group5", "group7"
    embedding = PatchEmbedding("mobilenet_v2", layers, weights=file).fit(X)
    embedding._keep_dtype(True)  # in float64, as the plain version computes
    maps = embedding.feature_maps(torch.tensor(X))
    x = torch.tensor(X).permute(0, 3, 1, 2) * 2 - 1
    arrays = np.load(file)
    for each, n_convolutions in zip(maps, (9, 39, 51), strict=True):
        expected = naive_mobilenet(arrays, x, n_convolutions)
        assert_allclose(each, expected, atol=1e-6 * float(expected.abs().max()))
    assert [tuple(each.shape[1:]) for each in maps] == [
        (24, 16, 24),
        (96, 4, 6),
        (320, 2, 3),
    ]
    by_file = PatchEmbedding(file).fit(X)
    assert by_file.layers_ == ("group3", "group5")


def test_padding_of_odd_sizes_is_tensorflows():
    network = resolve("mobilenet_v2", ("group1",), "random").module
    x = torch.zeros(1, 3, 7, 10)
    x[0, :, 0, 0] = 1.0
    network = network.get_submodule("00")
    network.relu = False
    out = network(x)
    assert out.shape[-2:] == (4, 5)
    # 7 rows: one row of padding above; 10 columns: none at the left
    weight = network.conv.weight
    assert_allclose(out[0, :, 0, 0], weight[:, :, 1, 0].sum(1), atol=1e-6)


# --------------------------------------------------------------------- files of weights


@pytest.fixture(scope="module")
def network():
    return lived_in("resnet18", ("layer1", "layer2"), seed=1)


@pytest.fixture(scope="module")
def expected(network):
    X = pictures(1, 32, 32, 3, dtype=np.float32)
    embedding = PatchEmbedding(
        "resnet18", ("layer1", "layer2"), weights=network.state_dict()
    )
    return X, embedding.fit_transform(X)


@pytest.mark.parametrize("folded", [False, True])
@pytest.mark.parametrize("ending", ["npz", "pth", "safetensors"])
def test_files_of_every_kind(network, expected, tmp_path, ending, folded):
    arrays = arrays_of(network)
    arrays = fold_batch_norms(arrays) if folded else arrays
    path = tmp_path / f"weights.{ending}"
    tensors = {name: torch.tensor(value) for name, value in arrays.items()}
    if ending == "npz":
        np.savez(path, **arrays)
    elif ending == "pth":
        torch.save({"state_dict": {f"module.{k}": v for k, v in tensors.items()}}, path)
    else:
        pytest.importorskip("safetensors.torch").save_file(tensors, path)
    X, features = expected
    for backbone, weights in (("resnet18", path), (str(path), None)):
        embedding = PatchEmbedding(backbone, ("layer1", "layer2"), weights=weights)
        assert_allclose(embedding.fit_transform(X), features, rtol=1e-4, atol=1e-5)


def test_a_whole_file_serves_a_truncated_network():
    arrays = arrays_of(lived_in("resnet18", ("layer4",)))
    arrays["fc.weight"], arrays["fc.bias"] = np.zeros((10, 512)), np.zeros(10)
    module = resolve("resnet18", ("layer1",), arrays).module
    assert not hasattr(module, "layer2")


def test_a_wrong_file_is_told_in_one_error(network, tmp_path):
    arrays = fold_batch_norms(arrays_of(network))
    with pytest.raises(ValueError, match=r"missing: layer3\.0\.conv1\.weight.*\.\.\."):
        PatchEmbedding("resnet18", weights=arrays)._prepare(3)
    bad = {**arrays, "conv1.weight": np.zeros((64, 1, 7, 7)), "head.weight": np.ones(2)}
    with pytest.raises(ValueError, match="weights=a state dict do not fit") as caught:
        PatchEmbedding("resnet18", ("layer1",), weights=bad)._prepare(3)
    assert "1 arrays unexpected: head.weight" in str(caught.value)
    assert "conv1.weight (64, 1, 7, 7) instead of (64, 3, 7, 7)" in str(caught.value)
    with_norms = arrays_of(network)
    del with_norms["bn1.running_var"]
    with pytest.raises(ValueError, match=r"1 arrays missing: bn1\.running_var"):
        PatchEmbedding("resnet18", ("layer1",), weights=with_norms)._prepare(3)
    path = tmp_path / "other.npz"
    np.savez(path, something=np.zeros(3))
    with pytest.raises(ValueError, match=r"fits none[\s\S]*wide_resnet50_2: .*missing"):
        PatchEmbedding(path)._prepare(3)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file of weights.*nowhere\.pth"):
        PatchEmbedding("resnet18", weights="nowhere.pth")._prepare(3)
    (tmp_path / "a.onnx").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"must end in \.pth"):
        PatchEmbedding("resnet18", weights=tmp_path / "a.onnx")._prepare(3)
    torch.save({"a": os.system}, tmp_path / "evil.pth")
    with pytest.raises(ValueError, match=r"evil\.pth' cannot be read") as caught:
        PatchEmbedding("resnet18", weights=tmp_path / "evil.pth")._prepare(3)
    assert isinstance(caught.value.__cause__, pickle.UnpicklingError)


def test_files_of_weights_that_hold_something_else(tmp_path):
    module = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3))
    good = module.state_dict()
    contents = {
        "module": (module, "holds more than arrays, such as a whole module"),
        "list": ([good], "it is a list, and no state dict"),
        "epochs": ({**good, "epoch": 3}, "'epoch' in it is a int, no array"),
    }
    for name, (content, message) in contents.items():
        path = tmp_path / f"{name}.pth"
        torch.save(content, path)
        with pytest.raises(
            ValueError, match=rf"{name}.pth' cannot be read: .*{message}"
        ):
            read_arrays(path)
    for suffix in (".pth", ".npz", ".safetensors"):
        path = tmp_path / f"junk{suffix}"
        path.write_bytes(b"junk")
        with pytest.raises(ValueError, match=rf"junk{suffix}' cannot be read"):
            PatchEmbedding(weights=path, backbone="resnet18").fit(np.ones((2, 32, 32)))
    for name in ("state_dict", "model_state_dict", "model"):
        path = tmp_path / f"{name}.pt"
        torch.save({name: good, "epoch": 3, "optimizer": {"lr": 0.1}}, path)
        assert set(read_arrays(path)) == set(good)


def test_without_weights_nothing_is_downloaded(tmp_path, monkeypatch, network):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    for name in ("resnet18", "wide_resnet50_2", "mobilenet_v2"):
        with pytest.raises(FileNotFoundError, match="weights='random'"):
            PatchEmbedding(name)._prepare(3)
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    torch.save(network.state_dict(), folder / "resnet18-0123abcd.pth")
    PatchEmbedding("resnet18", ("layer1",))._prepare(3)


@pytest.mark.parametrize("name", ["timm", "torchvision", "transformers"])
def test_libraries_that_are_missing_are_named(name):
    try:
        __import__(name)
    except (ImportError, RuntimeError):
        with pytest.raises(ImportError, match=f"needs {name}.*'gabor'"):
            PatchEmbedding(f"{name}/resnet18", weights="random")._prepare(3)
    else:
        with pytest.raises((ValueError, FileNotFoundError)):
            PatchEmbedding(f"{name}/no_such_network")._prepare(3)


def test_timm_and_torchvision_agree_with_ours():
    for library in ("timm", "torchvision"):
        try:
            __import__(library)
        except (ImportError, RuntimeError):
            pytest.skip(f"{library} cannot be imported")
        arrays = lived_in("resnet18", ("layer4",)).float().state_dict()
        arrays["fc.weight"], arrays["fc.bias"] = (
            torch.zeros(1000, 512),
            torch.zeros(1000),
        )
        X = pictures(1, 64, 64, 3)
        ours = PatchEmbedding("resnet18", weights=arrays).fit_transform(X)
        theirs = PatchEmbedding(f"{library}/resnet18", weights=arrays).fit_transform(X)
        assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


def test_random_weights_are_hes_and_always_the_same():
    module = skeleton("resnet18", ("layer2",), norm=False)
    arrays = random_arrays(module, seed=0)
    weight = arrays["layer1.0.conv1.weight"]
    assert abs(weight.std() / (2 / (64 * 9)) ** 0.5 - 1) < 0.02
    assert not arrays["conv1.bias"].any()
    X = pictures(1, 32, 32, 3)
    state = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    first, again = (
        PatchEmbedding("resnet18", weights="random").fit_transform(X) for _ in range(2)
    )
    assert_array_equal(first, again)
    assert_array_equal(state[0], torch.get_rng_state())
    assert_array_equal(state[1], np.random.get_state()[1])  # noqa: NPY002


# --------------------------------------------------------------------- any other module


class Small(nn.Module):
    """Two convolutions, and a third that must not be reached."""

    def __init__(self, into=3):
        super().__init__()
        self.first = nn.Conv2d(into, 4, 3, 2, 1)
        self.second = nn.Conv2d(4, 5, 3, 2, 1)
        self.third = nn.Conv2d(1, 1, 1)
        self.norm = nn.BatchNorm2d(4)
        self.unused = nn.Identity()

    def forward(self, x):
        return self.third(self.second(self.norm(self.first(x))))  # fails if reached


class Tokens(nn.Module):
    """A transformer's first step, with extra tokens in front of those of patches."""

    def __init__(self, n_extra=1, patch=8, how="tensor"):
        super().__init__()
        self.embed = nn.Conv2d(3, 6, patch, patch)
        self.block = nn.Identity()
        self.n_extra, self.how = n_extra, how

    def forward(self, x):
        tokens = self.embed(x).flatten(2).mT
        tokens = F.pad(tokens, (0, 0, self.n_extra, 0))
        return self.block((tokens,) if self.how == "tuple" else tokens)


def test_a_module_is_tapped_and_left_alone():
    module = Small()
    module.second.eval()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    X = pictures(3, 12, 16, 3, dtype=np.float32)
    embedding = PatchEmbedding(module, ("first", "second"), neighborhood=1).fit(X)
    features = embedding.transform(X)
    assert features.shape == (3, 6, 8, 9)
    frozen = module.eval()
    with torch.no_grad():
        first = frozen.first(torch.tensor(X).permute(0, 3, 1, 2))
        second = frozen.second(frozen.norm(first))
    module.train()
    assert_allclose(features[..., :4], first.permute(0, 2, 3, 1), atol=1e-6)
    upsampled = F.interpolate(second, (6, 8), mode="bilinear").permute(0, 2, 3, 1)
    assert_allclose(features[..., 4:], upsampled, atol=1e-6)
    for name, value in module.state_dict().items():
        assert_array_equal(value, before[name])
    assert module.first.weight.requires_grad
    assert not any(part._forward_hooks for part in module.modules())
    copy = embedding.backbone_
    assert not any(part._forward_hooks for part in copy.modules())
    assert not copy.training
    assert not any(value.requires_grad for value in copy.parameters())


def test_training_modes_of_the_users_module_stay():
    module = Small()
    module.second.eval()
    PatchEmbedding(module, ("second",)).fit(pictures(1, 8, 8, 3))
    assert module.training
    assert module.norm.training
    assert not module.second.training


def test_hooks_go_when_the_forward_pass_fails():
    taps = Taps(Small(), ("third",))
    with pytest.raises(RuntimeError):
        taps(torch.zeros(1, 3, 8, 8))
    assert not any(part._forward_hooks for part in taps.modules())


def test_a_class_is_built_the_same_way_every_time():
    X = pictures(2, 8, 8, 3)
    state = torch.get_rng_state()
    made = [
        PatchEmbedding(Small, ("first",), weights=None).fit_transform(X)
        for _ in range(2)
    ]
    assert_array_equal(*made)
    assert_array_equal(state, torch.get_rng_state())


def test_weights_of_a_module():
    other = Small()
    X = pictures(1, 8, 8, 3, dtype=np.float32)
    given = PatchEmbedding(Small(), ("first",), weights=other.state_dict())
    expected = PatchEmbedding(other, ("first",)).fit_transform(X)
    assert_array_equal(given.fit_transform(X), expected)


@pytest.mark.parametrize("how", ["tensor", "tuple"])
@pytest.mark.parametrize("n_extra", [0, 1, 5])
def test_tokens_become_maps(n_extra, how):
    module = Tokens(n_extra, how=how)
    X = pictures(2, 24, 40, 3, dtype=np.float32)
    embedding = PatchEmbedding(module, ("block",), neighborhood=1).fit(X)
    with torch.no_grad():
        expected = module.embed(torch.tensor(X).permute(0, 3, 1, 2))  # (b, 6, 3, 5)
    features = embedding.transform(X)
    assert_allclose(features, expected.permute(0, 2, 3, 1), atol=1e-6)


def test_the_size_of_patches_decides_where_it_is_known():
    module = Tokens(n_extra=5)  # 4 + 5 tokens would also make a grid of 3 x 3
    x = torch.zeros(1, 3, 16, 16)
    assert Taps(module, ("block",))(x)[0].shape[-2:] == (3, 3)
    module.config = type("Config", (), {"patch_size": 8})()
    assert Taps(module, ("block",))(x)[0].shape[-2:] == (2, 2)


@pytest.mark.parametrize(
    ("module", "layers", "message"),
    [
        (Small(), None, r"name the layers to tap; its parts are \['first'"),
        (Small(), ("first", "fourth"), r"unknown: \['fourth'\]"),
        (Small(), (), "must be names of parts"),
        (nn.Sequential(nn.Conv2d(3, 1, 1), nn.Flatten()), ("1",), "neither a map"),
        (Tokens(patch=5), ("block",), "make no grid|6 tokens"),
        ("gabor", ("scale9",), "different ones of"),
        ("gabor", ("scale1", "scale1"), "different ones of"),
        ("resnet18", ("bn1",), "different ones of"),
        ("resnet19", None, "is unknown. Pass 'gabor', 'resnet18'"),
        (int, None, "is a class, but not one of modules"),
    ],
)
def test_layers_and_names_that_do_not_fit(module, layers, message):
    with pytest.raises(ValueError, match=message):
        # what a layer makes of pictures is seen with the first of them
        PatchEmbedding(module, layers).fit_transform(pictures(1, 11, 8, 3))


def test_a_layer_that_is_never_reached():
    module = nn.Sequential(nn.Conv2d(3, 2, 1))
    module.add_module("side", nn.Identity())
    module.forward = lambda x: module[0](x)
    with pytest.raises(ValueError, match=r"never reached \['side'\]"):
        Taps(module, ("0", "side"))(torch.zeros(1, 3, 4, 4))


# ----------------------------------------------------------------------------- features


def naive_average(each, size):
    """Return the means of squares of places, with zeros beyond the border."""
    c, h, w = each.shape
    out, reach = np.zeros((c, h, w)), size // 2
    for i in range(h):
        for j in range(w):
            for di in range(-reach, reach + 1):
                for dj in range(-reach, reach + 1):
                    if 0 <= i + di < h and 0 <= j + dj < w:
                        out[:, i, j] += each[:, i + di, j + dj] / size**2
    return out


def test_features_are_averaged_and_set_beside_one_another():
    fine, coarse = pictures(1, 2, 6, 4), pictures(1, 3, 3, 2)
    maps = torch.tensor(fine), torch.tensor(coarse)
    joined = join_maps(maps, 3, "nearest")[0].numpy()
    assert joined.shape == (6, 4, 5)
    assert_allclose(joined[..., :2], naive_average(fine[0], 3).transpose(1, 2, 0))
    repeated = naive_average(coarse[0], 3).repeat(2, axis=1).repeat(2, axis=2)
    assert_allclose(joined[..., 2:], repeated.transpose(1, 2, 0))
    # bilinear, corners of pixels aligned: a quarter and three quarters
    one = torch.tensor([[[[0.0, 1.0]]]])
    line = join_maps([torch.zeros(1, 1, 1, 4), one], 1, "bilinear")[0, 0, :, 1]
    assert_allclose(line, [0.0, 0.25, 0.75, 1.0])


def test_normalization_and_grey_pictures():
    X = pictures(2, 9, 8, 1)
    seen = []

    class Watch(nn.Conv2d):
        def forward(self, x):
            seen.append(x)
            return super().forward(x)

    module = nn.Sequential(Watch(3, 1, 1))
    PatchEmbedding(module, ("0",), normalization=((0.1, 0.2, 0.3), (1, 2, 4))).fit(
        X
    ).transform(X)
    expected = (X[..., [0, 0, 0]] - [0.1, 0.2, 0.3]) / [1, 2, 4]
    assert_allclose(seen[-1].permute(0, 2, 3, 1), expected, rtol=1e-5, atol=1e-6)
    PatchEmbedding(module, ("0",), normalization=(0.5, 0.25)).fit(X).transform(X)
    assert_allclose(seen[-1][:, 0], (X[..., 0] - 0.5) * 4, rtol=1e-5, atol=1e-6)
    module.pretrained_cfg = {"mean": (0.0, 0.0, 0.5), "std": (1.0, 1.0, 0.5)}
    PatchEmbedding(module, ("0",)).fit(X).transform(X)
    assert_allclose(seen[-1][:, 2], X[..., 0] * 2 - 1, rtol=1e-5, atol=1e-6)
    PatchEmbedding(module, ("0",), normalization=None).fit(X).transform(X)
    assert_allclose(seen[-1][:, 2], X[..., 0], rtol=1e-6)
    assert seen[-1].dtype == torch.float32
    with pytest.raises(ValueError, match="takes pictures with 3 channels, X has 4"):
        PatchEmbedding(module, ("0",)).fit(pictures(1, 8, 8, 4))
    for wrong in ((0.5,), (0.5, 0.0), ((1, 2), (1, 2))):
        with pytest.raises(ValueError, match="normalization="):
            PatchEmbedding(module, ("0",), normalization=wrong).fit(X)


def test_pictures_are_resized():
    X = np.zeros((1, 40, 60, 3))
    X[:, :, 30:] = 1.0
    embedding = PatchEmbedding(image_size=(20, 24)).fit(X)
    x = embedding.network_input(torch.tensor(X))
    assert x.shape == (1, 3, 20, 24)
    # antialiased: halves of a step stay halves
    assert_allclose(x[0, 0, 0, [0, 10, 13, 23]], [0, 0, 1, 1], atol=0.05)
    assert PatchEmbedding(image_size=32).fit(X).transform(X).shape[1:3] == (16, 16)
    for wrong in ((3,), (3, 0), (3.0, 4.0)):
        with pytest.raises(ValueError, match="must be a height and a width"):
            PatchEmbedding(image_size=wrong).fit(X)
    with pytest.raises(ValueError, match="neighborhood=4 must be odd"):
        PatchEmbedding(neighborhood=4).fit(X)


def test_every_kind_of_input_gives_the_same_features(tmp_path):
    image = pytest.importorskip("PIL.Image")
    X = np.random.default_rng(0).integers(0, 256, (5, 20, 24, 3), dtype=np.uint8)
    paths = []
    for i, picture in enumerate(X):
        paths.append(str(tmp_path / f"{i}.png"))
        image.fromarray(picture).save(paths[-1])
    floats = X.astype(np.float32) / np.float32(255)
    expected = PatchEmbedding(batch_size=2).fit_transform(X)
    assert expected.dtype == np.float32
    for same in (floats, paths, list(floats)):
        assert_allclose(PatchEmbedding().fit_transform(same), expected, atol=1e-5)
    tensor = PatchEmbedding().fit_transform(torch.tensor(floats))
    assert isinstance(tensor, torch.Tensor)
    assert_allclose(tensor, expected, atol=1e-5)
    double = PatchEmbedding().fit_transform(floats.astype(np.float64))
    assert double.dtype == np.float64
    assert_allclose(double, expected, rtol=1e-3, atol=2e-3)
    rows = floats.reshape(5, -1)
    by_shape = PatchEmbedding(image_shape=(20, 24, 3)).fit_transform(rows)
    assert_array_equal(by_shape.reshape(expected.shape), by_shape)
    assert_allclose(by_shape, expected, atol=1e-5)
    with pytest.raises(ValueError, match="expected"):
        PatchEmbedding().fit(X).transform(X[:, :10])


def test_rows_are_pictures_of_one_row():
    X = pictures(4, 7)
    features = PatchEmbedding().fit_transform(X)
    as_pictures = PatchEmbedding().fit_transform(X[:, None, :, None])
    assert as_pictures.shape == (4, 1, 7, 148)
    # rows are computed in their own dtype, pictures in float32
    assert_allclose(features, as_pictures.reshape(4, -1), rtol=1e-4, atol=1e-5)


def test_copies_are_no_part_of_the_state():
    X = pictures(2, 16, 16, 3, dtype=np.float32)
    embedding = PatchEmbedding().fit(X)
    size = len(pickle.dumps(embedding))
    expected = embedding.transform(X)
    embedding.transform(X.astype(np.float64))
    assert len(pickle.dumps(embedding)) == size
    again = pickle.loads(pickle.dumps(embedding))
    assert_array_equal(again.transform(X), expected)
    assert_array_equal(clone(embedding).fit_transform(X), expected)


def test_lower_precision_and_memory_formats():
    X = pictures(2, 32, 32, 3, dtype=np.float32)
    arguments = {"backbone": "resnet18", "weights": "random"}
    expected = PatchEmbedding(**arguments).fit_transform(X)
    last = PatchEmbedding(**arguments, channels_last=True).fit_transform(X)
    assert_allclose(last, expected, rtol=1e-4, atol=1e-5)
    low = PatchEmbedding(**arguments, amp="bf16").fit_transform(X)
    assert low.dtype == np.float32
    error = np.abs(low - expected).max() / np.abs(expected).max()
    assert 1e-6 < error < 0.05
    double = PatchEmbedding(**arguments, amp="bf16").fit_transform(X.astype(float))
    assert double.dtype == np.float64


@pytest.mark.full
def test_compiled(monkeypatch):
    # torch's own eager backend: tracing is tested, not the machine's compiler
    monkeypatch.setattr(
        nn.Module,
        "compile",
        lambda self: setattr(
            self, "_compiled_call_impl", torch.compile(self._call_impl, backend="eager")
        ),
    )
    X = pictures(2, 32, 32, 3, dtype=np.float32)
    for backbone in ("gabor", Small()):
        layers = None if backbone == "gabor" else ("first", "second")
        compiled = PatchEmbedding(backbone, layers, compile=True).fit_transform(X)
        plain = PatchEmbedding(backbone, layers).fit_transform(X)
        assert_allclose(compiled, plain, rtol=1e-5, atol=1e-5)


class OneChannel(nn.Sequential):
    """For the estimator checks, which send pictures of one row."""

    def __init__(self):
        super().__init__(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU())


EMBEDDINGS = [PatchEmbedding(), PatchEmbedding(OneChannel, ("1",), neighborhood=1)]


@pytest.mark.parametrize("embedding", EMBEDDINGS, ids=["gabor", "class"])
def test_check_estimator(embedding):
    results = check_estimator(embedding, on_skip=None, on_fail=None)
    failed = [
        (row["check_name"], repr(row["exception"]))
        for row in results
        if row["status"] in ("failed", "skipped")
    ]
    assert not failed
    assert len(results) > 35


# check_estimators_data_not_an_array wants predictions
@pytest.mark.parametrize(
    "check",
    [check for check in NEVER_YIELDED if "not_an_array" not in check.__name__],
    ids=lambda check: check.__name__,
)
@pytest.mark.filterwarnings("ignore:X (has|does not have valid) feature names")
def test_checks_never_yielded(check):
    check("PatchEmbedding", PatchEmbedding())


# -------------------------------------------------------------------------------- gabor


def grating(angle, wavelength=4.0, phase=0.0, size=64):
    y, x = np.mgrid[:size, :size]
    along = x * np.cos(angle) + y * np.sin(angle)
    return 0.5 + 0.4 * np.cos(2 * np.pi * along / wavelength + phase)


def octave(X, name="scale1", **parameters):
    embedding = PatchEmbedding(layers=(name,), neighborhood=1, **parameters)
    return embedding.fit_transform(X)[0, 2:-2, 2:-2]  # away from the border


def test_filters_see_no_brightness_and_have_unit_norms():
    filters = gabor_filters(6)
    assert filters.shape == (12, 1, 7, 7)
    assert_allclose(filters.sum((1, 2, 3)), 0, atol=1e-12)
    assert_allclose(filters.square().sum((1, 2, 3)), 1)
    assert_allclose(filters[6:].flip(-1, -2), -filters[6:], atol=1e-12)  # odd
    assert_allclose(filters[:6].flip(-1, -2), filters[:6], atol=1e-12)  # even


@pytest.mark.parametrize("k", range(6))
@pytest.mark.parametrize("scale", [1, 2, 3])
def test_an_orientation_and_a_scale_answer_to_their_grating(k, scale):
    X = grating(np.pi * k / 6, wavelength=4.0 * 2 ** (scale - 1), size=128)[None]
    shares = octave(X, f"scale{scale}")[..., :6].mean((0, 1))
    assert shares.argmax() == k
    logarithms = [octave(X, f"scale{other}")[..., 6 + k].mean() for other in (1, 2, 3)]
    assert int(np.argmax(logarithms)) == scale - 1


def test_energies_do_not_know_the_phase_and_shares_not_the_contrast():
    wave = grating(0.3)[None]
    shifted = grating(0.3, phase=1.0)[None]
    assert_allclose(octave(shifted)[..., :12], octave(wave)[..., :12], rtol=0.1)
    faint = 0.5 + (wave - 0.5) / 3
    assert_allclose(octave(faint)[..., :6], octave(wave)[..., :6], rtol=0.05, atol=0.01)
    assert (octave(faint)[..., 6] < octave(wave)[..., 6] - 0.1).all()


def test_only_brightness_and_colour_see_a_flat_picture():
    X = np.broadcast_to([0.2, 0.4, 0.9], (1, 48, 48, 3))
    features = octave(X)
    assert_allclose(features[..., :-4], 0, atol=1e-4)
    assert_allclose(features[..., -4], 2 * 0.5, rtol=1e-6)
    assert_allclose(features[..., -3:] - 10 * np.array([-0.3, -0.1, 0.4]), 0, atol=1e-5)


def test_a_picture_that_moves_moves_its_features():
    big = pictures(1, 208, 208, 1)
    embedding = PatchEmbedding().fit(big[:, :192, :192])
    here = embedding.transform(big[:, :192, :192])[0]
    moved = embedding.transform(big[:, 8:200, 16:208])[0]  # by 1 place and by 2
    # the border reaches 10 places in at the deepest scale
    assert_allclose(moved[10:13, 10:12], here[11:14, 12:14], atol=1e-5)
    assert np.abs(moved[10:13, 10:12] - here[10:13, 10:12]).max() > 0.01


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (13, 2), (31, 300), (64, 128)])
def test_pictures_of_any_size(shape):
    for n_channels in (1, 3, 5):
        X = pictures(2, *shape, n_channels)
        features = PatchEmbedding(image_shape=(*shape, n_channels)).fit_transform(X)
        cells = [next(c for c in (8, 4, 2, 1) if c == 1 or n >= 16 * c) for n in shape]
        grid = tuple(-(-n // c) for n, c in zip(shape, cells, strict=True))
        assert features.shape[:3] == (2, *grid)
        assert np.isfinite(features).all()
        single = (
            PatchEmbedding(image_shape=(*shape, n_channels)).fit(X).transform(X[1:])
        )
        assert_allclose(single[0], features[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_huge_values_overflow_nothing(dtype):
    X = (pictures(2, 12, 12, 1) * 1e14).astype(dtype)
    assert np.isfinite(PatchEmbedding().fit_transform(X)).all()


def test_values_beyond_float32_are_refused():
    with pytest.raises(ValueError, match="too large for features in float32"):
        PatchEmbedding().fit_transform(pictures(2, 12, 12, 1) * 1e120)


def test_all_scales_have_as_many_maps_at_one_place():
    maps = GaborBank()(torch.rand(1, 3, 128, 128).double())
    assert [tuple(each.shape) for each in maps] == [(1, 40, 16, 16)] * len(LAYERS)


# ------------------------------------------------------------------------ real pictures


@pytest.fixture(scope="module")
def cookies(shared):
    image = pytest.importorskip("PIL.Image")
    folder = shared / "images" / "cookie"

    def read(paths):
        opened = [image.open(path).convert("RGB").resize((256, 256)) for path in paths]
        return np.stack([np.asarray(each) for each in opened])

    test = sorted((folder / "test").glob("*/*"))
    train = sorted((folder / "train" / "good").iterdir())
    labels = np.array([path.parent.name != "good" for path in test])
    return read(train), read(test), labels


@pytest.mark.parametrize(("backbone", "least"), [("gabor", 0.93), ("resnet18", 0.92)])
def test_nearest_patches_find_broken_cookies(cookies, shared, backbone, least):
    train, test, labels = cookies
    weights = shared / "weights" / WEIGHTS if backbone == "resnet18" else None
    embedding = PatchEmbedding(backbone, weights=weights).fit(train)
    features = torch.tensor(embedding.transform(train)).flatten(0, 2)
    order = np.random.default_rng(zlib.crc32(b"cookies")).permutation(len(features))
    bank = features[order[:2000]]
    scores = []
    for picture in test:
        patches = torch.tensor(embedding.transform(picture[None])).flatten(0, 2)
        squares = torch.addmm(bank.square().sum(1), patches, bank.T, alpha=-2)
        nearest = squares.min(1).values + patches.square().sum(1)
        scores.append(float(nearest.max()))
    assert roc_auc_score(labels, scores) > least
