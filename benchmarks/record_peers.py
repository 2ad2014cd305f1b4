"""Record other libraries' numbers, for what the page for those who come from them says.

    python benchmarks/record_peers.py pyod stumpy pytorch-ood anomalib pysad

writes ``tests/files/<library>-<version>.json``, which `tests/test_peers.py`,
`tests/test_peers_networks.py` and, of PySAD, `tests/test_stream_detectors.py` compare
with ours. Run it where they can be imported:
``pip install --no-deps pyod==3.6.7 combo==0.1.3 stumpy==1.14.1 pytorch-ood==0.4.0
anomalib==2.7.0`` beside what skad needs, and for anomalib ``kornia lightning
lightning-utilities torchmetrics omegaconf jsonargparse einops`` too. torchvision, timm
and other packages that these import and nothing here computes with may be absent.
``pysad==0.7.0`` needs an environment of its own.
"""

import abc
import importlib.machinery
import importlib.metadata
import importlib.util
import itertools
import json
import pathlib
import sys
import types
import warnings

import numpy as np

FOLDER = pathlib.Path(__file__).parents[1] / "tests" / "files"


class Anything(abc.ABCMeta):
    """The class of a name of a package that is absent."""

    def __getattr__(cls, name):
        """Return another such name."""
        if name.startswith("_"):
            raise AttributeError(name)
        return Anything(name, (), {"__class_getitem__": classmethod(lambda c, i: c)})


class Absent(types.ModuleType):
    """A package that is absent, and has every name."""

    __path__ = ()

    def __getattr__(self, name):
        """Return a class that nothing is computed with."""
        if name.startswith("_"):
            raise AttributeError(name)
        return Anything(name, (), {})


class Finder:
    """Lets packages be imported that are absent."""

    names = (
        *("torchvision", "timm", "FrEIA", "cv2", "imagecodecs", "tifffile", "skimage"),
        *("rich_argparse", "av", "docstring_parser", "open_clip"),
    )

    def find_spec(self, name, path=None, target=None):
        """Return what imports a package, of those that may be absent."""
        if name.split(".")[0] in self.names:
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec):
        """Return the package."""
        return Absent(spec.name)

    def exec_module(self, module):
        """Leave it as it is."""


def rounded(values, digits=4):
    """Return numbers as they are written and read again, an array."""
    return np.round(np.asarray(values, dtype=float), digits)


# ------------------------------------------------------------------------------- PyOD


def related(rng, n, mixing):
    """Return rows of eight features that two unseen ones bring about, nearly."""
    return rng.normal(size=(n, 2)) @ mixing + 0.15 * rng.normal(size=(n, 8))


def networks_of_pyod():
    """Return how well PyOD's networks see what breaks a relation, by five seeds.

    Each feature of an anomaly is usual, so that a network that has not learned how they
    belong together does not see it.
    """
    import torch
    from pyod.models.alad import ALAD
    from pyod.models.auto_encoder import AutoEncoder
    from pyod.models.deep_svdd import DeepSVDD
    from pyod.models.vae import VAE
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(2, 8))
    X_train, normal = (rounded(related(rng, n, mixing), 3) for n in (400, 100))
    broken = rng.permuted(rounded(related(rng, 100, mixing), 3), axis=0)
    X_new, y = np.concatenate([normal, broken]), np.repeat([0, 1], 100)
    made = {
        "AutoEncoder(epoch_num=10)": lambda seed: AutoEncoder(
            epoch_num=10, random_state=seed, verbose=0
        ),
        "VAE(epoch_num=30)": lambda seed: VAE(
            epoch_num=30, random_state=seed, verbose=0
        ),
        "DeepSVDD(n_features=4)": lambda seed: DeepSVDD(
            n_features=8, random_state=seed, verbose=0
        ),
        "ALAD()": lambda seed: ALAD(),
    }
    figures, fitted = {}, {}
    for name, make in made.items():
        figures[name] = []
        for seed in range(5):
            np.random.seed(seed)  # noqa: NPY002, ALAD has no random_state
            torch.manual_seed(seed)
            fitted[name] = make(seed).fit(X_train)
            anomaly = fitted[name].decision_function(X_new)
            figures[name].append(roc_auc_score(y, anomaly))
    few = X_new[95:105]
    ae, svdd = fitted["AutoEncoder(epoch_num=10)"], fitted["DeepSVDD(n_features=4)"]
    alad = fitted["ALAD()"]
    calls = [alad.decision_function(few) for _ in range(2)]
    scaled = torch.as_tensor((few - ae.X_mean) / ae.X_std).float()
    codes = torch.as_tensor(svdd.scaler_.transform(few)).float()
    with torch.no_grad():
        rebuilt = ae.model.eval()(scaled)
        codes = svdd.model_.eval()(codes) - svdd.c_
    return {
        "X_train": X_train,
        "X_new": X_new,
        "y": y,
        "roc_auc": figures,
        "errors": (scaled - rebuilt).double().numpy(),
        "scores_of_errors": ae.decision_function(few),
        "codes": codes.double().numpy(),
        "scores_of_codes": svdd.decision_function(few),
        "alad_between_two_calls": float(np.max(np.abs(calls[0] - calls[1]))),
        "alad_spread": float(np.ptp(calls[0])),
        "alad_steps": len(alad.hist_loss_gen),
    }


def bagging_of_pyod(X_train, X_new):
    """Return the scores of PyOD's bagging and the features of its members."""
    from pyod.models.feature_bagging import FeatureBagging

    found = {}
    for combination in ("average", "max"):
        bagging = FeatureBagging(combination=combination, random_state=0)
        bagging.fit(X_train)
        found[combination] = bagging.decision_function(X_new)
    features = [np.sort(own) for own in bagging.estimators_features_]
    return {"scores": found, "features": features}


def deep_forest_of_pyod(X_train, X_new):
    """Return the scores of PyOD's deep isolation forest."""
    from pyod.models.dif import DIF

    forest = DIF(random_state=0, device="cpu").fit(X_train)
    return {"train": forest.decision_scores_, "new": forest.decision_function(X_new)}


def pyod():
    """Return the scores of PyOD's detectors, on the rows that are recorded."""
    from pyod.models.abod import ABOD
    from pyod.models.cd import CD
    from pyod.models.cof import COF
    from pyod.models.copod import COPOD
    from pyod.models.ecod import ECOD
    from pyod.models.gmm import GMM
    from pyod.models.hbos import HBOS
    from pyod.models.hdbscan import HDBSCAN
    from pyod.models.iforest import IForest
    from pyod.models.inne import INNE
    from pyod.models.kde import KDE
    from pyod.models.knn import KNN
    from pyod.models.kpca import KPCA
    from pyod.models.loci import LOCI
    from pyod.models.loda import LODA
    from pyod.models.lof import LOF
    from pyod.models.mcd import MCD
    from pyod.models.ocsvm import OCSVM
    from pyod.models.pca import PCA
    from pyod.models.qmcd import QMCD
    from pyod.models.rod import ROD
    from pyod.models.sampling import Sampling
    from pyod.models.sod import SOD
    from pyod.models.sos import SOS
    from pyod.models.ts_od import TimeSeriesOD
    from pyod.models.vae import VAE

    rng = np.random.default_rng(0)
    scale = np.array([3.0, 4.0, 5.0, 2.0])
    X_train = rounded(scale * rng.normal(size=(120, 4)))
    X_new = rounded(1.5 * scale * rng.normal(size=(30, 4)))
    made = {
        "KNN()": KNN(),
        'KNN(method="mean")': KNN(method="mean"),
        "LOF()": LOF(),
        "MCD()": MCD(random_state=0),
        "GMM()": GMM(random_state=0),
        "KDE()": KDE(),
        "IForest()": IForest(random_state=0),
        "OCSVM()": OCSVM(),
        "ECOD()": ECOD(),
        "COPOD()": COPOD(),
        "HBOS()": HBOS(),
        "PCA()": PCA(random_state=0),
        "KPCA(n_selected_components=5)": KPCA(n_selected_components=5, random_state=0),
        "ABOD(n_neighbors=10)": ABOD(n_neighbors=10),
        "LODA()": LODA(),
        "INNE()": INNE(random_state=0),
        "COF()": COF(),
        "SOD()": SOD(),
        "HDBSCAN()": HDBSCAN(),
        "LOCI()": LOCI(),
        "ROD()": ROD(),
        "SOS()": SOS(),
        "QMCD()": QMCD(),
        "CD()": CD(),
        "Sampling()": Sampling(random_state=0),
    }
    np.random.seed(0)  # noqa: NPY002 - for what has no random_state
    scores, train = {}, {}
    for name, detector in made.items():
        detector.fit(X_train)
        scores[name] = detector.decision_function(X_new)
        train[name] = detector.decision_scores_
    knn = KNN(n_neighbors=5, contamination=0.1).fit(X_train)
    series = rounded(np.sin(np.arange(160) / 5) + 0.1 * rng.normal(size=160))
    other = rounded(np.sin(np.arange(100) / 5) + 0.1 * rng.normal(size=100))
    lifted = TimeSeriesOD("KNN", window_size=20).fit(series)
    vae = VAE(epoch_num=2, random_state=0, verbose=0).fit(X_train)
    calls = [vae.decision_function(X_new) for _ in range(2)]
    return {
        "X_train": X_train,
        "X_new": X_new,
        "scores": scores,
        "train": train,
        "vae_between_two_calls": float(np.max(np.abs(calls[0] - calls[1]))),
        "bagging": bagging_of_pyod(X_train, X_new),
        "networks": networks_of_pyod(),
        "deep_forest": deep_forest_of_pyod(X_train, X_new),
        "knn": {
            "labels": knn.predict(X_new),
            "labels_": knn.labels_,
            "labels_of_train": knn.predict(X_train),
            "threshold": knn.threshold_,
            "probability": knn.predict_proba(X_new)[:, 1],
        },
        "series": {
            "train": series,
            "new": other,
            "scores": lifted.decision_function(other),
        },
    }


# ----------------------------------------------------------------------------- STUMPY


def stumpy():
    """Return the profiles of the page's calls, of shorter series."""
    import stumpy

    rng = np.random.default_rng(0)
    t = np.arange(240)
    x = np.sin(t / 6) + 0.1 * rng.normal(size=240)
    x[120:132] += np.sin(np.arange(12))
    x, y = rounded(x), rounded(np.sin(np.arange(90) / 6) + 0.1 * rng.normal(size=90))
    X = np.stack([x, rounded(np.cos(t / 6) + 0.1 * rng.normal(size=240))], axis=1)
    profile = stumpy.stump(x, m=40)
    stream = stumpy.stumpi(x[:160], m=40, egress=False)
    for value in x[160:]:
        stream.update(value)
    return {
        "x": x,
        "y": y,
        "X": X,
        "stump": {
            "distances": profile[:, 0].astype(float),
            "neighbors": profile[:, 1].astype(int),
        },
        "join": stumpy.stump(y, m=40, T_B=x, ignore_trivial=False)[:, 0].astype(float),
        "left": stream.left_P_[121:],
        "mstump": stumpy.mstump(X.T, m=40)[0][-1],
    }


# ------------------------------------------------------------------------- pytorch-ood


def network(rng, X, y):
    """Return a small trained network, with weights as they are written."""
    import torch

    sizes = (4, 16), (16, 3)
    layers = [torch.nn.Linear(*size) for size in sizes]
    with torch.no_grad():
        for layer in layers:
            for part in layer.parameters():
                part.copy_(torch.as_tensor(0.4 * rng.normal(size=part.shape)))
    model = torch.nn.Sequential(layers[0], torch.nn.ReLU(), layers[1])
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    rows, labels = torch.as_tensor(X).float(), torch.as_tensor(y)
    for _ in range(60):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(rows), labels).backward()
        optimizer.step()
    with torch.no_grad():
        for part in model.parameters():
            part.copy_(torch.as_tensor(rounded(part, 3)))
    return model.eval()


def pytorch_ood():
    """Return the scores of pytorch-ood's detectors around a small network."""
    import torch
    from pytorch_ood import detector as d
    from pytorch_ood.metrics import OODMetrics
    from torch.utils.data import DataLoader, TensorDataset

    rng = np.random.default_rng(0)
    y = np.arange(150) % 3
    means = 1.2 * rng.normal(size=(3, 4))
    X = rounded(means[y] + rng.normal(size=(150, 4)))
    X_new = rounded(2.5 * rng.normal(size=(30, 4)))
    model = network(rng, X, y)
    encoder, head = model[:2], model[2]
    w, b = head.weight.detach(), head.bias.detach()
    rows, probe = torch.as_tensor(X).float(), torch.as_tensor(X_new).float()
    loader = DataLoader(TensorDataset(rows, torch.as_tensor(y)), batch_size=50)
    with torch.no_grad():
        right = model(rows).argmax(1) == torch.as_tensor(y)
    known = TensorDataset(rows[right], torch.as_tensor(y)[right])
    known = DataLoader(known, batch_size=50)

    def maps(x):
        return encoder(x)[:, :, None, None]

    def flat(x):
        return head(x.flatten(1))

    without = torch.nn.Linear(16, 3, bias=False)
    without.weight.data = w.clone()
    last = {"param_filter": lambda name: name == "2.weight"}
    made = {
        "MaxSoftmax(model)": d.MaxSoftmax(model),
        "MaxLogit(model)": d.MaxLogit(model),
        "EnergyBased(model, t=1.0)": d.EnergyBased(model, t=1.0),
        "Entropy(model)": d.Entropy(model),
        "GEN(model)": d.GEN(model),
        "KLMatching(model)": d.KLMatching(model),
        "ODIN(model, eps=0.0014)": d.ODIN(model, eps=0.0014),
        "Mahalanobis(encoder)": d.Mahalanobis(encoder),
        "RMD(encoder)": d.RMD(encoder),
        "KNN(encoder, k=50)": d.KNN(encoder, k=50),
        "SHE(encoder, head)": d.SHE(encoder, head),
        "ViM(encoder, d=8, w, b)": d.ViM(encoder, 8, w, b),
        "ReAct(backbone, head)": d.ReAct(maps, flat),
        "ASH(backbone, head)": d.ASH(maps, flat),
        "SCALE(backbone, head)": d.SCALE(maps, flat),
        "DICE(encoder, w, b, p=0.9)": d.DICE(encoder, w, b, 0.9),
        "NNGuide(encoder, head)": d.NNGuide(encoder, head),
        "GradNorm(model)": d.GradNorm(model),
        "GradNorm(model, of the last weights)": d.GradNorm(model, **last),
        "PNML(encoder, head)": d.PNML(encoder, head),
        "PNML(encoder, head without shift)": d.PNML(encoder, without),
        "OpenMax(model, tailsize=20)": d.OpenMax(model, tailsize=20),
        "OpenMax(model, tailsize=20), right ones": d.OpenMax(model, tailsize=20),
        "TemperatureScaling(model)": d.TemperatureScaling(model),
    }
    scores = {}
    for name, detector in made.items():
        detector.fit(known if "right ones" in name else loader)
        found = detector.predict(probe).detach().numpy().astype(float)
        scores[name] = found
    metrics, y_ood = OODMetrics(), np.arange(30) % 3 == 0
    outlier_score = rounded(rng.normal(size=30) + y_ood)
    metrics.update(torch.as_tensor(outlier_score), torch.as_tensor(-1 * y_ood))
    return {
        "X": X,
        "y": y,
        "X_new": X_new,
        "weights": [rounded(part.detach(), 3) for part in model.parameters()],
        "right": right.numpy(),
        "scores": scores,
        "temperature": made["TemperatureScaling(model)"].t.item(),
        "metrics": {
            "outlier_score": outlier_score,
            "outlier": y_ood,
            "figures": {k: float(v) for k, v in metrics.compute().items()},
        },
    }


# ---------------------------------------------------------------------------- anomalib


def anomalib():
    """Return maps and scores of anomalib's models, whose backbone hands pictures on."""
    import torch
    from anomalib.models.components import MultiVariateGaussian
    from anomalib.models.image.padim import anomaly_map as of_padim
    from anomalib.models.image.padim.torch_model import PadimModel
    from anomalib.models.image.patchcore import anomaly_map as of_patchcore
    from anomalib.models.image.patchcore.torch_model import PatchcoreModel

    class AsItIs(torch.nn.Module):
        """A backbone of one layer, each second pixel of the picture."""

        def forward(self, x):
            return {"layer": x[:, :, ::2, ::2]}

    rng = np.random.default_rng(0)
    pictures = rounded(rng.uniform(size=(5, 3, 20, 20)), 2)
    new = rounded(rng.uniform(size=(2, 3, 20, 20)), 2)
    new[0, :, 4:8, 4:8] = 1
    train, probe = (torch.as_tensor(part).float() for part in (pictures, new))

    def made(cls, generator, **settings):
        model = cls.__new__(cls)
        torch.nn.Module.__init__(model)
        model.tiler, model.layers, model.feature_extractor = None, ["layer"], AsItIs()
        model.anomaly_map_generator = generator.AnomalyMapGenerator()
        for name, value in settings.items():
            setattr(model, name, value)
        return model

    def noted(model):
        """Note maps without and scores with smoothing, each as it is there."""
        scores = model.eval()(probe).pred_score
        model.anomaly_map_generator.blur = torch.nn.Identity()
        maps = model(probe).anomaly_map
        return {
            "scores": scores.numpy().ravel().astype(float),
            "maps": maps[:, 0].numpy().astype(float),
        }

    found = {}
    for n_neighbors in (1, 9):
        model = made(
            PatchcoreModel,
            of_patchcore,
            num_neighbors=n_neighbors,
            feature_pooler=torch.nn.AvgPool2d(3, 1, 1),
            embedding_store=[],
        )
        model.register_buffer("memory_bank", torch.empty(0))
        model.train()(train)
        model.memory_bank = torch.vstack(model.embedding_store)
        found[f"Patchcore(num_neighbors={n_neighbors})"] = noted(model)
    model = made(
        PadimModel,
        of_padim,
        n_features=3,
        n_patches=100,
        memory_bank=[],
        gaussian=MultiVariateGaussian(),
    )
    model.register_buffer("idx", torch.arange(3))
    model.train()(train)
    model.fit()
    found["Padim(n_features=3)"] = noted(model)
    return {"pictures": pictures, "new": new, "scores": found}


# ------------------------------------------------------------------------------ PySAD


def pysad():
    """Return scores of detectors of streams, and what they have drawn."""
    from pysad.models import ExactStorm, RSHash, xStream

    rng = np.random.default_rng(0)
    X, new = (rounded(rng.normal(size=(n, 3))) for n in (80, 15))
    chains = xStream(5, n_chains=4, depth=6, window_size=40, random_state=0)
    cells = RSHash(
        *(X.min(axis=0), X.max(axis=0)),
        decay=1e-9,
        num_components=6,
        num_hash_fns=4,
        random_state=0,
    )
    storm = ExactStorm(window_size=100, max_radius=1.0)
    models = {"xStream": chains, "RSHash": cells, "ExactStorm": storm}
    for model, row in itertools.product(models.values(), X):
        model.fit_partial(row)
    scores = {
        name: [float(np.ravel(model.score_partial(row))[0]) for row in new]
        for name, model in models.items()
    }
    halves = chains.hs_chains
    drawn = {
        "weights": chains.streamhash._R.T,
        "widths": halves.deltamax,
        "axes": halves.fs,
        "shifts": halves.rand_arr,
        "cuts": cells.f,
        "features": [list(map(int, own)) for own in cells.V],
        "offsets": [list(map(float, own)) for own in cells.alpha],
    }
    return {"X": X, "new": new, "scores": scores, "drawn": drawn}


RECORDS = {
    "pyod": pyod,
    "stumpy": stumpy,
    "pytorch-ood": pytorch_ood,
    "anomalib": anomalib,
    "pysad": pysad,
}


def plain(node):
    """Return what JSON can say, scores with nine significant digits."""
    if isinstance(node, dict):
        return {key: plain(value) for key, value in node.items()}
    if isinstance(node, np.ndarray):
        node = node.tolist()
    if isinstance(node, list):
        return [plain(value) for value in node]
    if isinstance(node, float):
        return float(f"{node:.9g}")
    return node


def main(names):
    """Write the records of some libraries."""
    warnings.simplefilter("ignore")
    sys.meta_path.append(Finder())
    for name in names:
        version = importlib.metadata.version(name)
        found = {
            "command": f"python benchmarks/record_peers.py {name}",
            "versions": {
                part: importlib.metadata.version(part)
                for part in (name, "scikit-learn", "numpy")
            },
            **RECORDS[name](),
        }
        short = ".".join(version.split(".")[:2])
        file = FOLDER / f"{name}-{short}.json"
        file.write_text(json.dumps(plain(found)) + "\n", "utf-8")
        print(file.name, file.stat().st_size)


if __name__ == "__main__":
    main(sys.argv[1:] or RECORDS)
