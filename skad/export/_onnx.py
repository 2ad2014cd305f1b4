"""ONNX models of detectors, for runtimes without Python or torch."""

import copy
import os
import uuid
import warnings

from sklearn.utils.validation import check_is_fitted

from skad._needed import need
from skad._paths import as_path

_OPSET = 18


def to_onnx(detector, path):
    """Write a fitted detector as an ONNX model.

    The model takes "pictures", float32 in 0..1 of shape (n, h, w, c), where h, w and c
    are those of the fit and n is any number, and returns "decision_function" (n,),
    below 0 for an anomaly, and "map" (n, h, w), the anomaly of each pixel: those of the
    detector for the same pictures in float32, up to rounding. Of a network for rows the
    model takes "rows" (n, d), and its "map" is (n, d).

    Parameters
    ----------
    detector : BaseDetector
        The fitted detector, one whose map is a forward pass: those on pictures but
        `PatchDetector`, and those that are networks without a search or gradients in
        their scores. An error names them.
    path : str or path
        The file, by habit with the suffix ".onnx". Is replaced if it exists.

    Notes
    -----
    The backbone is part of the model. The models of `PatchCore` and `SPADE` hold the
    distances of all patches of a call to all they are compared with at once, so that
    memory grows with the number of pictures in a call. `amp` is left out: the model
    computes in float32.

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
    path = as_path(path)
    check_is_fitted(detector)
    if not getattr(detector, "_exports", False):
        raise ValueError(
            f"detector is a {type(detector).__name__}, which has no ONNX form: with "
            "these parameters its map is no forward pass, as those of AutoEncoder, "
            f"PatchCore, VAE and others are. It is {detector!r}"
        )
    for library in ("onnx", "onnxscript"):
        need(library, "skad.export.to_onnx")
    import torch

    model = _model(detector)
    shape = getattr(detector, "image_shape_", None)
    name = "rows" if shape is None else "pictures"
    given = torch.zeros(3, *(shape or [detector.n_features_in_]))
    with torch.no_grad():
        model(given)  # what is cached is made from real tensors
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about what torch's exporter does itself
            torch.onnx.export(
                model,
                (given,),
                partial,
                input_names=[name],
                output_names=["decision_function", "map"],
                dynamic_shapes={"x": {0: torch.export.Dim("n")}},
                opset_version=_OPSET,
                dynamo=True,
                external_data=False,
                verbose=False,
            )
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _model(detector):
    """Return a module that maps samples to their decision function and maps."""
    import torch

    detector = copy.deepcopy(detector)
    if hasattr(detector, "embedding_"):
        detector.embedding_.amp = None
    if hasattr(detector, "net_"):
        detector.net_ = detector.net_.to(device="cpu", dtype=torch.float32)

    class Model(torch.nn.Module):
        # has no parts: torch.export does not expect the hooks that tap a backbone
        # below a part that it knows

        def forward(self, x):
            anomaly, maps = detector._graph(x)
            return -anomaly - detector.offset_, maps

    return Model().eval()
