"""Thresholds of detectors on pictures hold on new ones; backbones see pictures once."""

import copy

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn import config_context
from sklearn.base import clone

import skad
from skad._cross_fitting import folds
from skad._limits import upper_limit
from skad._training._held_out import held_samples
from skad.embedding import PatchEmbedding
from skad.image import (
    AST,
    AVID,
    BGAD,
    CDO,
    CFA,
    CFLOW,
    CPC,
    DAF,
    DFM,
    DFR,
    DMAD,
    FAPM,
    FOD,
    FRE,
    GCAD,
    GCPF,
    GLASS,
    GLCF,
    HTDG,
    IKD,
    MKD,
    NPAD,
    OCRGAN,
    PANDA,
    PFM,
    PNI,
    REB,
    RFS,
    RSTDN,
    RSTPM,
    SCADN,
    SLSG,
    SOMAD,
    SPADE,
    STFPM,
    ADShift,
    AnomalyDINO,
    AnoSeg,
    CNNSelfSimilarity,
    CompressedSensingTexture,
    ConvolutionalSparseCoding,
    CSFlow,
    DeSTSeg,
    DifferNet,
    Dinomaly,
    EfficientAD,
    FastFlow,
    GaussianAD,
    GraphCore,
    INPFormer,
    InReaCh,
    MeanShifted,
    MemKD,
    MSPatch,
    MultiscaleSparseCoding,
    MuSc,
    PaDiM,
    PatchCore,
    PatchDetector,
    PatchSVDD,
    PositiveSamples,
    PyramidFlow,
    RDPlusPlus,
    ReConPatch,
    ReContrast,
    ReverseDistillation,
    SelFormaly,
    SemiOrthogonal,
    SemiREST,
    SetFeatures,
    SimpleNet,
    SoftPatch,
    SuperSimpleNet,
    Texems,
    TiledDetector,
    UniADet,
    UninformedStudents,
    load_folder,
)
from skad.image._base import TrainingPatches
from skad.image._tiled import Tiles
from tests._instances import class_of
from tests._pixels import Learned

WEIGHTS = "resnet18_conv1_to_layer3_bnfolded.npz"


class Squares(torch.nn.Module):
    """A backbone that says what is in squares of 4 x 4 pixels, and counts pictures."""

    seen, dtypes = 0, set()

    def __init__(self):
        super().__init__()
        self.first = torch.nn.PixelUnshuffle(4)
        self.second = torch.nn.AvgPool2d(2)

    def forward(self, x):
        Squares.seen += len(x)
        Squares.dtypes.add(x.dtype)
        return self.second(self.first(x))


GIVEN = {"backbone": Squares, "layers": ("first", "second")}
GIVEN_ONE = {"backbone": Squares, "layers": ("first",)}
SHORT = {"max_epochs": 2, "random_state": 0}
DETECTORS = {
    "PatchCore": PatchCore(**GIVEN, random_state=0),
    "PatchCore, weights": PatchCore(**GIVEN, n_neighbors=9, random_state=0),
    "GraphCore": GraphCore(**GIVEN, coreset_ratio=0.1, random_state=0),
    "SoftPatch": SoftPatch(**GIVEN, random_state=0),
    "CNNSelfSimilarity": CNNSelfSimilarity(**GIVEN_ONE, random_state=0),
    "CompressedSensingTexture": CompressedSensingTexture(
        n_levels=2, n_components=2, random_state=0
    ),
    "ConvolutionalSparseCoding": ConvolutionalSparseCoding(
        n_components=4, n_steps=5, n_learning_steps=5, random_state=0
    ),
    "MultiscaleSparseCoding": MultiscaleSparseCoding(
        n_levels=2, n_components=6, n_steps=10, random_state=0
    ),
    "Texems": Texems(n_levels=2, n_texems=2, random_state=0),
    "FAPM": FAPM(**GIVEN, coreset_ratio=0.5, random_state=0),
    "InReaCh": InReaCh(**GIVEN, random_state=0),
    "NPAD": NPAD(**GIVEN, n_features=8, n_clusters=2, random_state=0),
    "PaDiM, full": PaDiM(**GIVEN, n_features=8, random_state=0),
    "PaDiM, few": PaDiM(**GIVEN, n_features=None),
    "SemiOrthogonal": SemiOrthogonal(**GIVEN, n_features=8, random_state=0),
    "SetFeatures": SetFeatures(**GIVEN, n_projections=20, random_state=0),
    "SPADE": SPADE(**GIVEN, n_pictures=5),
    "GCPF": GCPF(**GIVEN, n_clusters=2, random_state=0),
    "SOMAD": SOMAD(**GIVEN, map_shape=(4, 4), random_state=0),
    "GaussianAD": GaussianAD(**GIVEN),
    "RFS": RFS(**GIVEN),
    "AnomalyDINO": AnomalyDINO(**GIVEN, n_rotations=1),
    "SelFormaly": SelFormaly(**GIVEN, random_state=0),
    "MuSc": MuSc(**GIVEN),
    "DFM": DFM(**GIVEN),
    "FRE": FRE(**GIVEN, n_components=3),
    "PatchDetector": PatchDetector(PatchEmbedding(**GIVEN), random_state=0),
    "PatchDetector, each": PatchDetector(
        PatchEmbedding(**GIVEN), skad.KNN(), positions="each"
    ),
    "PatchDetector, features": PatchDetector(
        PatchEmbedding(**GIVEN), positions="features", max_patches=500, random_state=0
    ),
}
TRAINED = {
    "CFA": CFA(**GIVEN, **SHORT),
    "DFR": DFR(**GIVEN, **SHORT),
    "EfficientAD": EfficientAD(
        **GIVEN,
        channels=6,
        width=4,
        latent_size=4,
        teacher_epochs=10,
        max_epochs=20,
        batch_size=4,
        lr=0.003,
        random_state=0,
    ),
    "SimpleNet": SimpleNet(**GIVEN, hidden_size=16, **SHORT),
    "SuperSimpleNet": SuperSimpleNet(**GIVEN, hidden_size=16, **SHORT),
    "SemiREST": SemiREST(
        **GIVEN, n_references=64, n_blocks=1, hidden_size=8, neighborhood=1, **SHORT
    ),
    "SLSG": SLSG(**GIVEN, **SHORT),
    "HTDG": HTDG(
        transformations="turns", image_size=None, n_scales=1, channels=2, **SHORT
    ),
    "UniADet": UniADet(**GIVEN, **SHORT),
    "GLASS": GLASS(**GIVEN, hidden_size=16, n_ascent_steps=5, **SHORT),
    "Dinomaly": Dinomaly(**GIVEN_ONE, **SHORT),
    "INPFormer": INPFormer(**GIVEN_ONE, **SHORT),
    "FastFlow": FastFlow(**GIVEN, n_steps=2, **SHORT),
    "CSFlow": CSFlow(**GIVEN_ONE, n_steps=1, hidden_size=4, **SHORT),
    "PyramidFlow": PyramidFlow(**GIVEN_ONE, n_levels=2, n_steps=1, **SHORT),
    "FOD": FOD(**GIVEN, n_layers=1, n_heads=2, hidden_size=8, **SHORT),
    "DifferNet": DifferNet(
        **GIVEN_ONE, n_steps=1, hidden_size=4, n_scored_rotations=2, **SHORT
    ),
    "AST": AST(
        **GIVEN_ONE, n_steps=1, hidden_size=4, student_channels=8, n_blocks=1, **SHORT
    ),
    "BGAD": BGAD(**GIVEN, n_steps=1, condition_size=4, max_epochs=1, random_state=0),
    "CFLOW": CFLOW(**GIVEN, n_steps=1, condition_size=4, max_epochs=1, random_state=0),
    "STFPM": STFPM(**GIVEN, student_channels=(8, 16), **SHORT),
    "UninformedStudents": UninformedStudents(
        **GIVEN,
        channels=4,
        width=4,
        patch_sizes=(17,),
        teacher_epochs=3,
        max_epochs=6,
        batch_size=4,
        lr=0.003,
        random_state=0,
    ),
    "GCAD": GCAD(
        **GIVEN,
        channels=4,
        width=4,
        patch_sizes=(17,),
        code_size=4,
        global_channels=4,
        global_width=4,
        student_width=4,
        teacher_epochs=3,
        max_epochs=10,
        batch_size=4,
        lr=0.003,
        random_state=0,
    ),
    "GLCF": GLCF(**GIVEN, token_size=8, n_heads=2, depth=1, **SHORT),
    "ReConPatch": ReConPatch(**GIVEN, code_size=8, **SHORT),
    "AnoSeg": AnoSeg(channels=2, **SHORT),
    "AVID": AVID(channels=2, **SHORT),
    "OCRGAN": OCRGAN(channels=2, **SHORT),
    "VideoGAN": class_of("VideoGAN")(**GIVEN, channels=2, batch_size=4, **SHORT),
    "PositiveSamples": PositiveSamples(channels=2, **SHORT),
    "CPC": CPC(code_size=8, n_negatives=16, **SHORT),
    "SCADN": SCADN(n_stripes=(2, 4), channels=2, n_blocks=1, **SHORT),
    "PatchSVDD": PatchSVDD(n_draws=5, code_size=8, max_epochs=2, random_state=0),
    "MSPatch": MSPatch(n_draws=5, code_size=8, max_epochs=2, random_state=0),
    "PNI": PNI(**GIVEN, n_codes=8, n_layers=3, hidden_size=8, **SHORT),
    "PFM": PFM(**GIVEN, other=PatchEmbedding(**GIVEN), latent_sizes=(4,), **SHORT),
    "RSTPM": RSTPM(
        **GIVEN,
        other=PatchEmbedding(**GIVEN),
        student_channels=(8, 16),
        n_blocks=1,
        **SHORT,
    ),
    "RSTDN": RSTDN(
        **GIVEN,
        other=PatchEmbedding(**GIVEN),
        student_channels=(8, 16),
        n_blocks=1,
        discriminator_width=2,
        student_epochs=2,
        **SHORT,
    ),
    "IKD": IKD(**GIVEN, student_channels=(8, 16), **SHORT),
    "MKD": MKD(**GIVEN, **SHORT),
    "CDO": CDO(**GIVEN, student_channels=(8, 16), **SHORT),
    "ADShift": ADShift(**GIVEN, **SHORT),
    "DAF": DAF(
        **GIVEN,
        student_channels=(8, 16),
        segmenter_channels=8,
        max_epochs=10,
        batch_size=4,
        lr=0.003,
        random_state=0,
    ),
    "DeSTSeg": DeSTSeg(
        **GIVEN,
        student_channels=(8, 16),
        segmenter_channels=8,
        student_epochs=2,
        **SHORT,
    ),
    "DMAD": DMAD(**GIVEN, field_channels=4, n_codes=8, **SHORT),
    "MemKD": MemKD(**GIVEN, n_items=5, **SHORT),
    "RDPlusPlus": RDPlusPlus(**GIVEN, **SHORT),
    "ReContrast": ReContrast(**GIVEN, **SHORT),
    "ReverseDistillation": ReverseDistillation(**GIVEN, **SHORT),
}
TILED = {
    "tiles of PatchCore": TiledDetector(
        DETECTORS["PatchCore"], tile=16, overlap=0, random_state=0
    ),
    "tiles of DFR": TiledDetector(TRAINED["DFR"], tile=16, overlap=0, random_state=0),
}
# Those that train the network that looks at pictures.
NARROW = {"hidden_sizes": (4, 8), **SHORT}
TUNED = {"backbone": Learned, "layers": ("learned",), **SHORT}
FROM_PIXELS = {
    "GEOM": skad.GEOM(**NARROW),
    "RotNet": skad.RotNet(**NARROW),
    "E3Outlier": skad.E3Outlier(**NARROW),
    "CSI": skad.CSI(code_size=8, crops=False, **NARROW),
    "SSD": skad.SSD(code_size=8, **NARROW),
    "ELSA": skad.ELSA(code_size=8, n_prototypes=8, pretrain_epochs=1, **NARROW),
    "DROC": skad.DROC(code_size=8, n_projection_layers=1, **NARROW),
    "CutPaste": skad.CutPaste(architecture="conv", code_size=8, **NARROW),
    "InvertibleHierarchies": skad.InvertibleHierarchies(
        n_steps=1, hidden_size=4, general_epochs=1, **SHORT
    ),
    "PANDA": PANDA(**TUNED),
    "REB": REB(**TUNED),
    "MeanShifted": MeanShifted(**TUNED),
}
EVERY = DETECTORS | TRAINED | TILED | FROM_PIXELS
# The backbone sees them again where it describes altered pictures in every epoch, or
# pictures at several sizes, or where a map takes gradients through it.
AGAIN = {
    "ADShift",
    "CDO",
    "CSFlow",
    "DeSTSeg",
    "DMAD",
    "DifferNet",
    "EfficientAD",
    "GLASS",
    "MKD",
    "RDPlusPlus",
    "ReContrast",
    "SLSG",
    "SemiREST",
    "UniADet",
}
AGAIN |= {"CNNSelfSimilarity"}  # region by region
AGAIN |= {"PFM", "RSTDN", "RSTPM"}  # of which there are two
AGAIN |= {"VideoGAN"}  # beside what is made of them
# which have no backbone
AGAIN |= {"CompressedSensingTexture", "MultiscaleSparseCoding", "PatchSVDD", "Texems"}
AGAIN |= {"AVID", "MSPatch", "PositiveSamples"}
AGAIN |= {"AnoSeg", "CPC", "ConvolutionalSparseCoding", "HTDG", "OCRGAN", "SCADN"}
AGAIN |= {"GCAD", "UninformedStudents", *FROM_PIXELS}
ONCE = {name: one for name, one in EVERY.items() if name not in AGAIN}


def every(detectors):
    return pytest.mark.parametrize("detector", detectors.values(), ids=list(detectors))


def pictures(n, seed=0):
    """Return pictures (n, 32, 32) of one texture, in more and less light."""
    rng = np.random.default_rng(seed)
    texture = np.random.default_rng(9).normal(0.5, 0.1, size=(32, 32))
    light = rng.normal(1, 0.05, size=(n, 1, 1))
    return (light * texture + rng.normal(0, 0.02, (n, 32, 32))).astype(np.float32)


def own_scores(detector, X):
    """Return what the threshold was taken from."""
    return np.asarray(detector._threshold_anomaly_)


def fitted_without(detector, X, i):
    """Return the anomaly of a picture under the same detector fitted to the others."""
    other = clone(detector).set_params(contamination=0.5).fit(np.delete(X, i, axis=0))
    return -other.score_samples(X[i : i + 1])[0]


# ----------------------------------------------------------------- a picture left out


@pytest.mark.parametrize("n_features", [1, 3, None])
@pytest.mark.parametrize("n", [2, 3, 4, 5, 12, 25])
def test_padim_leaves_one_out_in_closed_form(n, n_features):
    """Against fits without the picture, on either side of n = d and at d + 1."""
    X = pictures(n).astype(np.float64)
    detector = PaDiM(**GIVEN, n_features=n_features, random_state=0).fit(X)
    expected = [fitted_without(detector, X, i) for i in range(n)]
    assert_allclose(own_scores(detector, X), expected, rtol=1e-6)
    with config_context(working_memory=1e-3):
        small = clone(detector).fit(X)
    assert_allclose(small.offset_, detector.offset_, rtol=1e-6)


@pytest.mark.parametrize("n_pictures", [3, 50])
def test_spade_leaves_the_picture_out(n_pictures):
    X = pictures(9).astype(np.float64)
    detector = SPADE(**GIVEN, n_pictures=n_pictures).fit(X)
    expected = [fitted_without(detector, X, i) for i in range(len(X))]
    assert_allclose(own_scores(detector, X), expected, rtol=1e-6)


@pytest.mark.parametrize("memory", [1024, 0.02], ids=["kept", "merged"])
@pytest.mark.parametrize(
    "settings",
    [{}, {"n_neighbors": 1}, {"n_neighbors": 9}, {"bank_size": 7}, {"pooling": "top"}],
)
def test_patchcore_leaves_a_picture_s_own_patches_out(settings, memory):
    """Against a bank without them, whether it was thinned out at once or in pieces."""
    X = pictures(10).astype(np.float64)
    with config_context(working_memory=memory):
        detector = PatchCore(**GIVEN, **settings, random_state=0).fit(X)
    assert len(detector.owners_) == len(detector.bank_)
    patches = detector.embedding_.embed(torch.tensor(X)[..., None]).flatten(1, 2)
    for entry, owner in zip(detector.bank_, detector.owners_, strict=True):
        assert (patches[owner] == entry).all(1).any()
    expected = []
    for i in range(len(X)):
        without, others = copy.deepcopy(detector), detector.owners_ != i
        without.bank_ = detector.bank_[others]
        without._squares_ = detector._squares_[others]
        expected.append(-without.score_samples(X[i : i + 1])[0])
    assert_allclose(own_scores(detector, X), expected, rtol=1e-9)


def test_a_picture_that_filled_the_bank_sets_no_threshold():
    detector = PatchCore(**GIVEN, bank_size=1, random_state=0).fit(pictures(6))
    assert len(own_scores(detector, None)) == 5
    assert np.isfinite(detector.offset_)


def test_a_number_takes_the_scores_of_the_training_pictures():
    X = pictures(20)
    for detector in (DETECTORS | TILED).values():
        detector = clone(detector).set_params(contamination=0.1).fit(X)
        expected = np.quantile(detector.score_samples(X), 0.1)
        assert_allclose(detector.offset_, expected, rtol=1e-5)


@pytest.mark.by_turns
@pytest.mark.parametrize("dtype", ["f4", "f8"])
@every(TRAINED)
def test_a_number_takes_exactly_what_a_network_says_of_the_pictures(detector, dtype):
    """In their dtype, whatever the samples of the training are in."""
    X = pictures(12).astype(dtype)
    detector = clone(detector).set_params(contamination=0.25).fit(X)
    assert detector.offset_ == np.quantile(detector.score_samples(X), 0.25)
    assert (detector.predict(X) == -1).sum() == 3


def test_one_picture_is_its_own_threshold():
    for detector in DETECTORS.values():
        if getattr(detector, "positions", None) == "each":
            continue
        if isinstance(detector, GaussianAD | FAPM | DFM | SetFeatures):
            continue  # for which one is an error
        if isinstance(detector, InReaCh):
            detector = clone(detector).set_params(min_length=0)
        with pytest.warns(UserWarning, match="learned from one picture"):
            detector = clone(detector).fit(pictures(1))
        score = detector.score_samples(pictures(1))
        assert_allclose(detector.offset_, score, rtol=1e-6)  # in float32


def test_heads_are_refitted_without_the_pictures_they_score():
    """Five copies, each as a detector that is fitted without a fold."""
    X = pictures(20)
    detector = PatchDetector(PatchEmbedding(**GIVEN), max_patches=None).fit(X)
    expected = []
    for fold in folds(len(X)):
        held = np.sort(fold)
        other = clone(detector).set_params(contamination=0.5)
        other.fit(np.delete(X, held, axis=0))
        expected.append(-other.score_samples(X[held]))
    assert_allclose(own_scores(detector, X), np.concatenate(expected), rtol=1e-5)
    with config_context(working_memory=0.01):
        assert_allclose(clone(detector).fit(X).offset_, detector.offset_, rtol=1e-5)


def test_tiles_of_one_picture_stay_together():
    """Of a bank, the entries from all tiles of the picture are left out."""
    X = pictures(5)
    tiles = Tiles(X[..., None], (16, 16), 0)
    assert_array_equal(tiles.owners, np.repeat(np.arange(5), 4))
    detector = clone(TILED["tiles of PatchCore"]).fit(X)
    inner = detector.detector_
    expected = []
    for i in range(5):
        without, others = copy.deepcopy(detector), inner.owners_ != i
        without.detector_.bank_ = inner.bank_[others]
        without.detector_._squares_ = inner._squares_[others]
        expected.append(-without.score_samples(X[i : i + 1])[0])
    limit = upper_limit(np.array(expected), 0.05)
    assert_allclose(-detector.offset_, limit, rtol=1e-5)


def test_a_training_on_tiles_holds_whole_pictures_out():
    X = pictures(20)
    held = held_samples(20, 0.2, at_least=5)
    X[held] = 0.5 + 0.1 * (X[held] - 0.5)  # more alike than those that are learned
    detector = clone(TILED["tiles of DFR"]).fit(X)
    assert detector.detector_.n_held_out_ == 4 * len(held)
    anomaly = -detector.score_samples(X)
    parts = anomaly[held], np.delete(anomaly, held)
    limits = [upper_limit(part, 0.05) for part in parts]
    assert limits[0] < limits[1]
    assert_allclose(-detector.offset_, limits[1], rtol=1e-5)


# ------------------------------------------------------------------------- one pass


@pytest.mark.by_turns
@pytest.mark.parametrize("contamination", ["auto", 0.1])
@every(ONCE)
def test_a_backbone_sees_every_picture_once(detector, contamination):
    X = pictures(20)
    n = 4 if isinstance(detector, TiledDetector) else 1  # tiles of a picture
    detector = clone(detector).set_params(contamination=contamination)
    Squares.seen = 0
    detector.fit(X)
    assert Squares.seen == 20 * n
    detector.predict(X[:10])
    maps = detector.transform(X[:10])
    assert Squares.seen == 40 * n
    found = detector.inspect(X[:10])
    assert Squares.seen == 50 * n
    assert_array_equal(found.maps, maps)
    assert_array_equal(found.scores, detector.score_samples(X[:10]))


def test_features_are_kept_once():
    """What a pass yields are views of the whole, which is filled batch by batch."""
    X = torch.tensor(pictures(10))[..., None]
    detector = clone(DETECTORS["PatchCore"]).fit(X)
    training = TrainingPatches(detector, X, detector.embedding_.embed)
    memory = {each.untyped_storage().data_ptr() for each in training}
    assert memory == {training.all().untyped_storage().data_ptr()}
    assert_array_equal(training.all(), detector.embedding_.embed(X))
    with config_context(working_memory=1e-3):
        small = TrainingPatches(detector, X, detector.embedding_.embed)
        assert not small.kept
        assert_array_equal(torch.cat(list(small)), training.all())
        assert_array_equal(small.all(), training.all())
    assert_array_equal(training[np.array([3, 1])], training.all()[[3, 1]])


def test_batches_do_not_change_what_is_learned():
    X = pictures(13)
    for name in ("PatchCore", "PaDiM, full", "PaDiM, few", "SPADE"):
        one, many = (
            clone(DETECTORS[name]).set_params(batch_size=size).fit(X)
            for size in (3, 100)
        )
        assert_allclose(one.offset_, many.offset_, rtol=2e-5)
        assert_allclose(one.score_samples(X), many.score_samples(X), rtol=2e-5)


def test_backbones_compute_in_float32_whatever_pictures_are():
    X = pictures(8).astype(np.float64)
    Squares.dtypes.clear()
    detector = clone(DETECTORS["PatchCore"]).fit(X)
    scores = detector.score_samples(X)
    assert Squares.dtypes == {torch.float32}
    assert scores.dtype == np.float64
    assert detector.transform(X).dtype == np.float64
    single = clone(detector).fit(X.astype(np.float32))
    assert_allclose(single.score_samples(X.astype(np.float32)), scores, rtol=1e-4)


# ---------------------------------------------------------------------- on new pictures


@pytest.mark.by_turns
@every(EVERY)
def test_few_new_pictures_are_flagged(detector):
    """The mean over draws of the share of new normal pictures; of the slow, one."""
    slow = getattr(detector, "positions", None) == "each"
    # of few that were held out the threshold is rough
    rough = isinstance(detector, AST | Dinomaly | GCAD | UninformedStudents)
    n = 1 if slow else 8 if rough else 3
    shares = [
        np.mean(clone(detector).fit(pictures(30, i)).predict(pictures(60, 100 + i)) < 0)
        for i in range(n)
    ]
    assert np.mean(shares) <= 0.15


# The layer norm of patches takes more light away, which is all that is wrong there.
SEE_LIGHT = {name: one for name, one in (DETECTORS | TILED).items() if name != "MuSc"}


@pytest.mark.by_turns
@every(SEE_LIGHT)
def test_bad_pictures_are_flagged(detector):
    bad = pictures(10, 5)
    bad[:, 4:24, 4:24] += 0.8
    assert (clone(detector).fit(pictures(30)).predict(bad) == -1).all()


def of_folder(shared, name):
    """Return good training and test pictures (n, 256, 256, 3)."""
    data = load_folder(shared / "images" / name, size=(256, 256))
    return data.X_train[:], data.X_test[np.flatnonzero(data.y_test == 1)]


REAL = {
    "PatchCore": PatchCore(random_state=0),
    "PaDiM": PaDiM(random_state=0),
    "SPADE": SPADE(),
    "PatchDetector": PatchDetector(random_state=0),
    "DFR": DFR(max_epochs=20, lr=1e-3, random_state=0),
    "SimpleNet": SimpleNet(max_epochs=4, random_state=0),
}


@pytest.mark.full
@pytest.mark.parametrize("backbone", ["gabor", "resnet18"])
@every(REAL)
def test_few_good_cookies_are_flagged(shared, detector, backbone):
    train, good = of_folder(shared, "cookie")
    given = {"backbone": backbone}
    if backbone != "gabor":
        given["weights"] = shared / "weights" / WEIGHTS
    prefix = "" if hasattr(detector, "backbone") else "embedding__"
    detector = clone(detector)
    if prefix:
        detector.set_params(embedding=PatchEmbedding())
    detector.set_params(**{prefix + key: value for key, value in given.items()})
    assert np.mean(detector.fit(train).predict(good) == -1) <= 0.15


@pytest.mark.full
def test_few_good_tiles_are_flagged(shared):
    train, good = of_folder(shared, "magnetic_tile")
    for detector in (PatchCore(coreset_ratio=0.02, random_state=0), REAL["PaDiM"]):
        assert np.mean(clone(detector).fit(train).predict(good) == -1) <= 0.15
