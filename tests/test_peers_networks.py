"""What the page for people from other libraries says of networks, against numbers.

Those of pytorch-ood and anomalib are in tests/files, where
``benchmarks/record_peers.py`` wrote them: around the same small network, and on
features that are every second pixel.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from scipy.stats import spearmanr
from sklearn.metrics import auc, precision_recall_curve

import skad
from skad.image._upsampling import upsample
from skad.metrics import aupr_out, auroc, fpr_at_tpr
from tests.test_docs import MIGRATION, calls

FILES = Path(__file__).parent / "files"
OOD = json.loads((FILES / "pytorch-ood-0.4.json").read_text("utf-8"))
PICTURES = json.loads((FILES / "anomalib-2.7.json").read_text("utf-8"))
X, X_NEW = (np.array(OOD[name], np.float32) for name in ("X", "X_new"))
Y = np.array(OOD["y"])

# What the rows of the page claim, by their call there.
EQUAL = {
    "MaxSoftmax(model)",
    "MaxLogit(model)",
    "EnergyBased(model, t=1.0)",
    "KLMatching(model)",
    "ODIN(model, eps=0.0014)",
    "KNN(encoder, k=50)",
    "SHE(encoder, head)",
    "ViM(encoder, d=8, w, b)",
    "ReAct(backbone, head)",
    "ASH(backbone, head)",
    "SCALE(backbone, head)",
    "DICE(encoder, w, b, p=0.9)",
    "NNGuide(encoder, head)",
}
# where no class is nearly certain or impossible, whose probability is kept there
ROUNDED = {"Entropy(model)": 1, "GEN(model)": 3}
TIMES_ROWS = {"Mahalanobis(encoder)": 2, "RMD(encoder)": 1}
# (recorded under another name, equal there)
OTHERS = {
    "GradNorm(model)": "GradNorm(model, of the last weights)",
    "OpenMax(model, tailsize=20)": "OpenMax(model, tailsize=20), right ones",
}
NEARLY_THE_SAME_ORDER = {"PNML(encoder, head)", "TemperatureScaling(model)"}


@pytest.fixture
def model():
    linear = torch.nn.Linear
    model = torch.nn.Sequential(linear(4, 16), torch.nn.ReLU(), linear(16, 3)).eval()
    with torch.no_grad():
        for part, values in zip(model.parameters(), OOD["weights"], strict=True):
            part.copy_(torch.tensor(values))
    return model


def rows_from(library, until):
    section = MIGRATION.read_text("utf-8").split(f"From {library}\n")[1]
    found = calls(section.split(f"From {until}\n")[0])
    return {there.strip("`"): here for there, here in found}


def test_every_line_around_classifiers_is_recorded():
    claimed = EQUAL | ROUNDED.keys() | TIMES_ROWS.keys() | OTHERS.keys()
    claimed |= NEARLY_THE_SAME_ORDER
    assert claimed == rows_from("pytorch-ood", "STUMPY").keys()
    assert claimed <= OOD["scores"].keys()


@pytest.mark.parametrize("there", sorted(rows_from("pytorch-ood", "STUMPY")))
def test_lines_from_pytorch_ood_give_its_numbers(there, model):
    here = rows_from("pytorch-ood", "STUMPY")[there]
    detector = eval(here, {**dict(skad.all_detectors()), "model": model})
    anomaly = -detector.fit(X, Y).score_samples(X_NEW)
    expected = np.array(OOD["scores"][there])
    if there in EQUAL:
        assert_allclose(anomaly, expected, rtol=5e-4, atol=1e-6)
    elif there in ROUNDED:
        with torch.no_grad():
            least = model(torch.tensor(X_NEW)).softmax(dim=1).amin(dim=1).numpy()
        unsure = least > 1e-6
        assert 5 < unsure.sum() < len(unsure)
        anomaly = anomaly / ROUNDED[there]
        assert_allclose(anomaly[unsure], expected[unsure], rtol=1e-3)
        assert spearmanr(anomaly, expected).statistic > 0.99
    elif there in TIMES_ROWS:
        expected *= TIMES_ROWS[there] * len(X)
        assert_allclose(anomaly, expected, rtol=1e-4, atol=1e-3 * np.ptp(anomaly))
        assert spearmanr(anomaly, expected).statistic > 0.9999
    elif there in OTHERS:
        assert not np.allclose(anomaly, expected, rtol=0.05)
        expected = np.array(OOD["scores"][OTHERS[there]])
        assert_allclose(anomaly, expected, rtol=1e-3)
    else:
        assert not np.allclose(anomaly, expected, rtol=0.01)
        assert spearmanr(anomaly, expected).statistic > 0.95


def test_the_temperature_here_is_the_likelier_one(model):
    detector = skad.TemperatureScaling(model).fit(X, Y)
    assert abs(detector.temperature_ - OOD["temperature"]) > 0.01
    with torch.no_grad():
        logits = model(torch.tensor(X)).double()
    loss, there = (
        torch.nn.functional.cross_entropy(logits / t, torch.tensor(Y))
        for t in (detector.temperature_, OOD["temperature"])
    )
    assert loss < there


def test_the_figures_of_ood_metrics_are_ours():
    recorded = OOD["metrics"]
    y_ood = np.where(recorded["outlier"], -1, 1)
    score, figures = recorded["outlier_score"], recorded["figures"]
    assert_allclose(auroc(y_ood, score), figures["AUROC"], rtol=1e-6)
    precision, recall, _ = precision_recall_curve(recorded["outlier"], score)
    assert_allclose(auc(recall, precision), figures["AUPR-OUT"], rtol=1e-6)
    assert_allclose(aupr_out(y_ood, score), figures["AUPR-OUT"], rtol=0.02)
    assert abs(aupr_out(y_ood, score) - figures["AUPR-OUT"]) > 1e-3
    found = fpr_at_tpr(y_ood, score, positive="ood")
    assert_allclose(found, figures["FPR95TPR"], rtol=1e-6)


class EachSecondPixel(torch.nn.Module):
    """A backbone whose only layer are pixels."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Identity()

    def forward(self, x):
        return self.layer(x[:, :, ::2, ::2]).mean(dim=(2, 3))


@pytest.mark.parametrize("there", PICTURES["scores"])
def test_lines_from_anomalib_give_its_numbers(there):
    train, new = (
        np.moveaxis(np.array(PICTURES[name], np.float32), 1, -1)
        for name in ("pictures", "new")
    )
    same = {"backbone": EachSecondPixel(), "layers": ["layer"], "normalization": None}
    recorded = PICTURES["scores"][there]
    maps, scores = np.array(recorded["maps"]), recorded["scores"]
    n = int(there.split("=")[1].strip(")"))
    if "Padim" in there:
        detector = skad.PaDiM(n_features=n, smoothing=0, **same).fit(train)
        assert_allclose(detector.transform(new), maps, rtol=1e-3)
        detector.set_params(smoothing=4).fit(train)
        assert_allclose(-detector.score_samples(new), scores, rtol=0.05)
        return
    detector = skad.PatchCore(
        n_neighbors=n, coreset_ratio=1.0, smoothing=0, random_state=0, **same
    ).fit(train)
    assert_allclose(-detector.score_samples(new), scores, rtol=1e-4)
    steps = maps[:, ::2, ::2]  # there a place is a square of pixels
    assert_allclose(np.repeat(np.repeat(steps, 2, 1), 2, 2), maps)
    expected = upsample(torch.tensor(steps), (20, 20), (0, 0))
    assert_allclose(detector.transform(new), expected, rtol=1e-3, atol=1e-5)
