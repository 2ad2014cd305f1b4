"""Vision transformers as embeddings: tokens, grids, positions, and who takes them."""

import types

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from torch import nn
from torch.nn import functional as F  # noqa: N812

import skad
from skad.embedding import PatchEmbedding, ViTEmbedding
from skad.embedding._tokens import find_blocks, resample
from tests._transformer import TinyViT


def pictures(n, *shape):
    random = np.random.default_rng(0)
    return random.uniform(size=(n, *shape)).astype(np.float32)


def block_by_block(module, x):
    """Return the tokens (b, t, d) behind each block, in evaluation mode."""
    module = module.eval()
    with torch.no_grad():
        tokens = module.patches(x).flatten(2).mT
        tokens = torch.cat([module.extra.expand(len(x), -1, -1), tokens], 1)
        tokens, found = module.first_norm(tokens + module.pos_embed), []
        for block in module.blocks:
            tokens = block(tokens)
            found.append(tokens)
        return found


@pytest.mark.parametrize("n_registers", [0, 4])
def test_tokens_are_those_of_the_blocks(n_registers):
    module, X = TinyViT(n_registers), pictures(2, 16, 16, 3)
    expected = block_by_block(module, torch.tensor(X).permute(0, 3, 1, 2))
    embedding = ViTEmbedding(module, layers=(0, 2, -1), norm=False).fit(X)
    assert embedding.layers_ == ("blocks.0", "blocks.2", "blocks.3")
    for (first, places), i in zip(
        embedding.tokens(torch.tensor(X)), (0, 2, 3), strict=True
    ):
        assert_array_equal(first, expected[i][:, 0])
        for row, column in np.ndindex(4, 4):
            token = expected[i][:, 1 + n_registers + 4 * row + column]
            assert_array_equal(places[:, :, row, column], token)
    joined = torch.cat([each[:, 1 + n_registers :] for each in expected[:1]], 2)
    features = embedding.transform(X)
    assert features.shape == (2, 4, 4, 36)
    assert_array_equal(features[..., :12].reshape(2, 16, 12), joined)


def test_the_last_block_behind_the_last_norm_is_what_the_model_returns():
    module, X = TinyViT(1).eval(), pictures(2, 16, 16, 3)
    features = ViTEmbedding(module).fit_transform(X)
    with torch.no_grad():
        expected = module(torch.tensor(X).permute(0, 3, 1, 2))[:, 2:]
    assert_array_equal(features.reshape(2, 16, 12), expected)


def test_blocks_are_joined_or_averaged_and_the_class_stands_beside():
    module, X = TinyViT(), pictures(2, 16, 16, 3)
    joined = ViTEmbedding(module, (1, 3), class_token=True).fit_transform(X)
    averaged = ViTEmbedding(
        module, (1, 3), class_token=True, combine="mean"
    ).fit_transform(X)
    assert_allclose(averaged, (joined[..., :24] + joined[..., 24:]) / 2, atol=1e-6)
    assert (joined[..., 12:24] == joined[:, :1, :1, 12:24]).all()
    first, _ = ViTEmbedding(module, (1,)).fit(X).tokens(torch.tensor(X))[0]
    assert_array_equal(joined[:, 0, 0, 12:24], first)
    smooth = ViTEmbedding(module, neighborhood=3).fit_transform(X)
    plain = torch.as_tensor(ViTEmbedding(module).fit_transform(X))
    expected = F.avg_pool2d(plain.permute(0, 3, 1, 2), 3, 1, 1).permute(0, 2, 3, 1)
    assert_allclose(smooth, expected, atol=1e-6)


def test_other_sizes_are_resized_to_whole_patches_with_positions_between():
    module, X = TinyViT(1), pictures(2, 14, 27, 3)
    embedding = ViTEmbedding(module).fit(X)
    assert embedding.input_size == (12, 24)
    assert embedding.patch_size_ == (4, 4)
    assert embedding.transform(X).shape == (2, 3, 6, 12)
    x = torch.tensor(X).permute(0, 3, 1, 2)
    whole = F.interpolate(x, (12, 24), mode="bilinear", antialias=True)
    there = ViTEmbedding(module).fit_transform(whole.permute(0, 2, 3, 1))
    assert_allclose(embedding.transform(X), there, atol=1e-6)
    # positions of places are interpolated, those of class and register stay
    positions = module.pos_embed.detach()
    found = embedding.backbone_.module.pos_embed
    assert_array_equal(found[:, :2], positions[:, :2])
    places = positions[:, 2:].reshape(1, 4, 4, 12).permute(0, 3, 1, 2)
    places = F.interpolate(places, (3, 6), mode="bicubic")
    assert_allclose(found[0, 2 + 6 + 4], places[0, :, 1, 4])
    # the module that was given is as it was
    assert module.pos_embed.shape[1] == 18
    assert module.training
    small = ViTEmbedding(module, image_size=3).fit(X)
    assert small.input_size == (4, 4)
    assert small.transform(X).shape == (2, 1, 1, 12)


def test_positions_for_another_grid():
    rows = torch.arange(4.0)[:, None].expand(4, 4).reshape(1, 16, 1)
    found = resample(torch.cat([torch.full((1, 1, 1), 9.0), rows], 1), (8, 4))
    assert float(found[0, 0]) == 9  # the class has no place
    places = found[0, 1:].reshape(8, 4)
    assert_allclose(places, places[:, :1].expand(8, 4), atol=1e-6)
    assert (places[1:, 0] > places[:-1, 0] - 0.1).all()
    assert_allclose(places.mean(), 1.5, atol=1e-6)
    assert resample(rows, (4, 4)) is rows


def test_it_is_frozen_and_in_single_precision_whatever_it_is_given():
    module, X = TinyViT(), pictures(2, 16, 16, 3)
    single = ViTEmbedding(module).fit(X)
    assert not any(one.requires_grad for one in single.backbone_.parameters())
    assert not single.backbone_.training
    double = ViTEmbedding(TinyViT().double()).fit_transform(X.astype(float))
    assert double.dtype == np.float64
    assert_allclose(double, single.transform(X), atol=1e-6)
    assert_array_equal(single.transform(X[:1]), single.transform(X)[:1])


def test_names_of_features_and_grey_pictures():
    X = pictures(2, 16, 16)
    embedding = ViTEmbedding(TinyViT, (0, 1)).fit(X)
    assert len(embedding.get_feature_names_out()) == 24
    colour = np.repeat(X[..., None], 3, axis=3)
    expected = ViTEmbedding(TinyViT, (0, 1)).fit_transform(colour)
    assert_allclose(embedding.transform(X), expected, atol=1e-5)
    by_class = ViTEmbedding(TinyViT, (0,), weights=TinyViT().state_dict())
    assert_array_equal(by_class.fit_transform(X), embedding.transform(X)[..., :12])


class Configured(TinyViT):
    """Looks like a model of transformers."""

    def __init__(self, model_type):
        super().__init__()
        self.config = types.SimpleNamespace(model_type=model_type, patch_size=4)
        self.asked = []

    def forward(self, x, interpolate_pos_encoding=False):
        self.asked.append(interpolate_pos_encoding)
        return super().forward(x)


def test_models_of_transformers_know_their_normalization_or_ask_for_it():
    X = pictures(1, 16, 16, 3)
    found = ViTEmbedding(Configured("dinov2_with_registers")).fit(X)
    assert found.mean_ == (0.485, 0.456, 0.406)
    clip = ViTEmbedding(Configured("clip_vision_model")).fit(X)
    assert clip.std_[0] == pytest.approx(0.26862954)
    with pytest.raises(ValueError, match="backbone=Configured is unknown: pass"):
        ViTEmbedding(Configured("vit")).fit(X)
    own = ViTEmbedding(Configured("vit"), normalization=(0.5, 0.25)).fit(X)
    own.transform(X)
    assert own.mean_ == (0.5,)
    assert own.backbone_.module.asked == [True]


def test_of_a_model_with_text_the_pictures_are_looked_at():
    both = nn.Module()
    both.vision_model, both.text_model = TinyViT(), TinyViT(depth=9)
    X = pictures(1, 16, 16, 3)
    expected = ViTEmbedding(TinyViT).fit_transform(X)
    assert_array_equal(ViTEmbedding(both).fit_transform(X), expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layers": (4,)}, "layers=.4,. must be numbers of blocks, from -4 to 3"),
        ({"layers": ()}, "must be numbers of blocks"),
        ({"layers": ("blocks.0",)}, "must be numbers of blocks"),
        ({"neighborhood": 2}, "neighborhood=2 must be odd"),
        ({"image_size": (0, 3)}, "image_size"),
        ({"backbone": "resnet18"}, "Pass 'transformers/FOLDER'"),
        ({"backbone": nn.Conv2d(3, 4, 4, stride=4)}, "no list of blocks"),
        (
            {"backbone": lambda: TinyViT(class_token=False), "class_token": True},
            "has patches alone",
        ),
    ],
)
def test_what_does_not_fit_says_so(arguments, message):
    arguments = {"backbone": TinyViT, **arguments}
    if not isinstance(arguments["backbone"], str | nn.Module | type):
        arguments["backbone"] = arguments["backbone"]()
    with pytest.raises(ValueError, match=message):
        ViTEmbedding(**arguments).fit_transform(pictures(1, 16, 16, 3))


def test_networks_that_are_no_transformers():
    class Stages(nn.Module):
        def __init__(self, stride):
            super().__init__()
            self.stem = nn.Conv2d(3, 4, 4, stride=stride)
            self.stages = nn.Sequential(*(nn.Sequential(nn.ReLU()) for _ in range(3)))

        def forward(self, x):
            return self.stages(self.stem(x))

    X = pictures(1, 16, 16, 3)
    assert find_blocks(Stages(4)) == ["stages.0", "stages.1", "stages.2"]
    with pytest.raises(
        ValueError, match=r"not tokens \(b, t, d\): PatchEmbedding taps"
    ):
        ViTEmbedding(Stages(4), norm=False).fit_transform(X)
    with pytest.raises(ValueError, match="states no patch_size"):
        ViTEmbedding(Stages(2)).fit(X)


# ------------------------------------------------------------------- in the detectors

TRAINED = {"max_epochs": 1, "random_state": 0}
DETECTORS = {
    "PatchCore": {"random_state": 0},
    "PaDiM": {"random_state": 0},
    "PatchDetector": {"random_state": 0},
    "SPADE": {},
    "SoftPatch": {"random_state": 0},
    "FAPM": {"random_state": 0},
    "GaussianAD": {},
    "CFA": TRAINED,
    "SimpleNet": TRAINED,
    "FastFlow": {**TRAINED, "n_steps": 1},
    "CFLOW": TRAINED,
    "DFR": TRAINED,
}


@pytest.mark.parametrize("name", DETECTORS)
def test_it_serves_every_detector_on_pictures(name, tmp_path):
    X = pictures(6, 15, 24, 3)
    embedding = ViTEmbedding(TinyViT, (1, 2))
    detector = getattr(skad.image, name)(embedding=embedding, **DETECTORS[name])
    maps = clone(detector).fit(X).transform(X)
    assert maps.shape == (6, 15, 24)
    assert np.isfinite(maps).all()
    assert not hasattr(embedding, "backbone_")
    detector.fit(X)
    assert isinstance(detector.embedding_, ViTEmbedding)
    skad.save(detector, tmp_path / "one.skad", trusted=[TinyViT])
    again = skad.load(tmp_path / "one.skad", trusted=[TinyViT])
    assert_array_equal(again.score_samples(X), detector.score_samples(X))


def test_it_goes_into_a_graph(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    X = pictures(5, 15, 24, 3)
    embedding = ViTEmbedding(TinyViT, (1, 2), class_token=True)
    detector = skad.PatchCore(embedding=embedding, random_state=0).fit(X)
    skad.export.to_onnx(detector, tmp_path / "one.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "one.onnx")
    decisions, maps = session.run(None, {"pictures": X})
    assert_allclose(decisions, detector.decision_function(X), atol=1e-4)
    assert_allclose(maps, detector.transform(X), atol=1e-4)


def test_as_embedding_it_is_what_the_parameters_would_say():
    X, backbone = pictures(4, 16, 16, 3), nn.Sequential(nn.Conv2d(3, 4, 3, padding=1))
    said = skad.PatchCore(
        backbone=backbone, layers=("0",), image_size=12, random_state=0
    )
    embedding = PatchEmbedding(backbone, ("0",), image_size=12)
    given = skad.PatchCore(embedding=embedding, random_state=0)
    assert_array_equal(said.fit(X).transform(X), given.fit(X).transform(X))
    with pytest.raises(ValueError, match="leave the others out"):
        skad.PatchCore(backbone=backbone, embedding=embedding).fit(X)
