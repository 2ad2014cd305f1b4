"""ONNX models of detectors on pictures, for runtimes without Python or torch."""

import copy
import os
import pathlib
import uuid
import warnings

from sklearn.utils.validation import check_is_fitted

from skad._needed import need

EXPORTED = ("FastFlow", "PaDiM", "PatchCore", "STFPM")
_OPSET = 18


def to_onnx(detector, path):
    """Write a fitted detector on pictures as an ONNX model.

    The model takes "pictures", float32 in 0..1 of shape (n, h, w, c), where h, w and c
    are those of the fit and n is any number, and returns "decision_function" (n,),
    below 0 for an anomaly, and "map" (n, h, w), the anomaly of each pixel: those of the
    detector for the same pictures in float32, up to rounding.

    Parameters
    ----------
    detector : PaDiM, PatchCore, STFPM or FastFlow
        The fitted detector.
    path : str or path
        The file, by habit with the suffix ".onnx". Is replaced if it exists.

    Notes
    -----
    The backbone is part of the model. PatchCore's model holds the distances of all
    patches of a call to the whole bank at once, so that memory grows with the number of
    pictures in a call. `amp` is left out: the model computes in float32.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> import numpy as np
    >>> import onnxruntime
    >>> from skad.export import to_onnx
    >>> from skad.image import PaDiM
    >>> good = np.random.default_rng(0).uniform(0.4, 0.6, size=(8, 32, 32))
    >>> good = good.astype(np.float32)
    >>> detector = PaDiM(n_features=10, random_state=0).fit(good)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "part-17.onnx")
    ...     to_onnx(detector, path)
    ...     session = onnxruntime.InferenceSession(path)
    ...     found = session.run(["map"], {"pictures": good[..., None]})
    >>> bool(np.abs(found[0] - detector.transform(good)).max() < 1e-4)
    True
    """
    name = type(detector).__name__
    if name not in EXPORTED or not type(detector).__module__.startswith("skad.image."):
        raise ValueError(
            f"detector is a {name}, which has no ONNX form: those of "
            f"{', '.join(EXPORTED)} have."
        )
    check_is_fitted(detector)
    for library in ("onnx", "onnxscript"):
        need(library, "skad.export.to_onnx")
    import torch

    model = _model(detector)
    pictures = torch.zeros(3, *detector.image_shape_)
    with torch.no_grad():
        model(pictures)  # what is cached is made from real tensors
    path = pathlib.Path(path)
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about what torch's exporter does itself
            torch.onnx.export(
                model,
                (pictures,),
                partial,
                input_names=["pictures"],
                output_names=["decision_function", "map"],
                dynamic_shapes={"pictures": {0: torch.export.Dim("n")}},
                opset_version=_OPSET,
                dynamo=True,
                external_data=False,
                verbose=False,
            )
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _model(detector):
    """Return a module that maps pictures to their decision function and maps."""
    import torch

    detector = copy.deepcopy(detector)
    detector.embedding_.amp = None
    network = getattr(detector, "net_", None)
    if network is not None:
        network = network.to(device="cpu", dtype=torch.float32)

    class Model(torch.nn.Module):
        # has no parts: torch.export does not expect the hooks that tap a backbone
        # below a part that it knows

        def forward(self, pictures):
            if network is not None:
                patches = network.map(detector._describe(pictures))
                anomaly = detector._pool(patches)
            elif hasattr(detector, "bank_"):
                features = detector.embedding_.embed(pictures)
                anomaly, patches = _from_bank(detector, features)
            else:
                patches = detector._patches(pictures)
                anomaly = detector._pool(patches)
            return -anomaly - detector.offset_, detector._upsampled(patches)

    return Model().eval()


def _from_bank(detector, features):
    """Return the anomaly of pictures and of patches, of any number of pictures.

    The detector searches its bank in blocks, the number of which a model cannot have.
    """
    import torch

    own = {"dtype": features.dtype, "device": features.device}
    bank, squares = detector.bank_.to(**own), detector._squares_.to(**own)
    indices = (squares - 2 * features @ bank.T).argmin(-1)  # (b, gh, gw)
    patches = (features - bank[indices]).square().sum(-1).sqrt()
    largest, place = patches.flatten(1).max(1)
    neighbour = indices.flatten(1).gather(1, place[:, None])[:, 0]
    rows = torch.arange(features.shape[0], device=features.device)
    patch = features.flatten(1, 2)[rows, place]
    return detector._weighted(patch, largest, neighbour), patches
