"""What a name, a file, a class or a module of a backbone stands for."""

import copy
import json
import os
import pathlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from importlib import import_module

import torch
from torch import nn

from skad.embedding import _gabor, _mobilenet, _resnet
from skad.embedding._weights import as_arrays, load_arrays, read_arrays

HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
# Tokens of a transformer besides those of the patches: classes and registers.
_MOST_EXTRA_TOKENS = 16


@dataclass
class Backbone:
    """A network, the layers it is tapped at and what its pictures look like.

    `module` maps (b, c, h, w) to the list of the maps of `layers`; `n_channels` is None
    where any number of channels will do. `norms` are the mean and standard deviation of
    each channel, both None where pictures stay as they are; None is unknown.
    """

    module: nn.Module
    layers: tuple
    n_channels: int | None = None
    norms: tuple | None = (None, None)


def resolve(backbone, layers, weights):
    """Return the `Backbone`, frozen and in evaluation mode, on the host."""
    layers = layers if layers is None else tuple(layers)
    if isinstance(backbone, nn.Module | type):
        found = _given(backbone, layers, weights)
    elif backbone == "gabor":
        if weights is not None:
            raise ValueError("backbone='gabor' has no weights: leave weights=None.")
        found = _gabor_bank(layers)
    elif backbone in _resnet.ARCHITECTURES:
        found = _resnet_named(backbone, layers, weights)
    elif backbone == "mobilenet_v2":
        found = _mobilenet_v2(layers, weights)
    elif str(backbone).startswith(("timm/", "torchvision/", "transformers/")):
        found = _from_library(backbone, layers, weights)
    elif pathlib.Path(backbone).suffix and weights is None:
        found = _from_file(backbone, layers)
    else:
        raise ValueError(
            f"backbone={backbone!r} is unknown. Pass 'gabor', "
            + ", ".join(map(repr, (*_resnet.ARCHITECTURES, "mobilenet_v2")))
            + ", 'timm/NAME', 'torchvision/NAME', 'transformers/NAME', a file of "
            "weights, or a torch.nn.Module."
        )
    found.module.eval().requires_grad_(False)
    return found


# ------------------------------------------------------------------------ the built-in


def _gabor_bank(layers):
    layers = _known_layers(layers, _gabor.LAYERS, _gabor.LAYERS, "gabor")
    return Backbone(_gabor.GaborBank(layers), layers)


def _resnet_named(name, layers, weights):
    layers = _known_layers(layers, ("layer2", "layer3"), _resnet.LAYERS, name)
    if weights is None:
        weights = _cached(f"{name}-*.pth")
    if weights is None:
        raise FileNotFoundError(_no_weights(name))
    module = _resnet.skeleton(name, layers, norm=False)
    if _is_random(weights):
        arrays, source = _resnet.random_arrays(module, seed=0), "'random'"
    else:
        arrays, source = _arrays(weights)
    load_resnet(name, module, arrays, source)
    return Backbone(module, layers, 3, _resnet.IMAGENET)


def load_resnet(name, module, arrays, source):
    """Put a whole or a truncated file into a ResNet without batch norms."""
    norm = _resnet.with_batch_norm(arrays)
    whole = _resnet.skeleton(name, _resnet.LAYERS, norm).state_dict()

    def beyond(array):
        return array in whole or array in ("fc.weight", "fc.bias")

    if norm:
        # compared before folding, so that the error names what is in the file
        skeleton = _resnet.skeleton(name, module.layers, norm=True)
        load_arrays(skeleton, arrays, source, beyond)
        arrays = {n: arrays[n] for n in skeleton.state_dict() if n in arrays}
        arrays = _resnet.fold_batch_norms(arrays)
    load_arrays(module, arrays, source, beyond)


def _mobilenet_v2(layers, weights):
    name = "mobilenet_v2"
    layers = _known_layers(layers, ("group3", "group5"), _mobilenet.LAYERS, name)
    if weights is None:
        raise FileNotFoundError(_no_weights(name))
    with torch.device("meta"):
        module = _mobilenet.MobileNetV2(layers)
        whole = _mobilenet.MobileNetV2(_mobilenet.LAYERS).state_dict()
    if _is_random(weights):
        arrays, source = _resnet.random_arrays(module, seed=0), "'random'"
    else:
        arrays, source = _arrays(weights)
    heads = "51.conv.weight", "51.conv.bias", "52.conv.weight", "52.conv.bias"
    load_arrays(module, arrays, source, lambda n: n in whole or n in heads)
    return Backbone(module, layers, 3, HALF)


def _from_file(path, layers):
    """Find the architecture that a file of weights belongs to."""
    arrays = read_arrays(path)
    if "00.conv.weight" in arrays:
        return _mobilenet_v2(layers, path)
    faults = []
    for name in _resnet.ARCHITECTURES:
        try:
            return _resnet_named(name, layers, path)
        except ValueError as error:
            faults.append(f"{name}: {error}")
    raise ValueError(
        f"backbone={os.fspath(path)!r} fits none of the architectures known here:\n"
        + "\n".join(faults)
    )


# -------------------------------------------------------------------- any other module


class Taps(nn.Module):
    """Any module, tapped at some of its layers.

    Hooks are there only during a call, which ends as soon as all layers were reached.
    Sequences of tokens become maps.
    """

    def __init__(self, module, layers):
        super().__init__()
        self.module, self.layers = module, tuple(layers)

    def forward(self, x):
        """Return the maps of `layers`, in their order."""
        found, handles = {}, []
        try:
            for name in self.layers:
                tap = partial(self._keep, name, found)
                handles.append(
                    self.module.get_submodule(name).register_forward_hook(tap)
                )
            self.module(x)
        except _Enough:
            pass
        finally:
            for handle in handles:
                handle.remove()
        missing = [name for name in self.layers if name not in found]
        if missing:
            raise ValueError(f"The backbone's forward pass never reached {missing}.")
        return [self._as_map(name, found[name], x) for name in self.layers]

    def _keep(self, name, found, module, args, output):
        found.setdefault(name, output)
        if len(found) == len(set(self.layers)):
            raise _Enough

    def _as_map(self, name, output, x):
        output = getattr(output, "last_hidden_state", output)
        if isinstance(output, tuple | list):
            output = output[0]
        if isinstance(output, torch.Tensor) and output.ndim == 4:
            return output
        if not isinstance(output, torch.Tensor) or output.ndim != 3:
            kind = tuple(getattr(output, "shape", ())) or type(output).__name__
            raise ValueError(
                f"Layer {name!r} of the backbone gives {kind}: neither a map "
                "(b, c, h, w) nor tokens (b, t, d)."
            )
        height, width = self._grid(name, output.shape[1], x.shape[-2:])
        tokens = output[:, output.shape[1] - height * width :]  # (b, gh gw, d)
        return tokens.mT.reshape(len(x), -1, height, width)

    def _grid(self, name, n_tokens, size):
        """Return the rows and columns of tokens of a picture of `size`."""
        patch = _patch_size(self.module)
        if patch is not None:
            height, width = (n // p for n, p in zip(size, patch, strict=True))
            if 0 < height * width <= n_tokens:
                return height, width
        for extra in range(min(n_tokens, _MOST_EXTRA_TOKENS + 1)):
            height = round(((n_tokens - extra) * size[0] / size[1]) ** 0.5)
            if height and (n_tokens - extra) % height == 0:
                width = (n_tokens - extra) // height
                if width * size[0] == height * size[1]:
                    return height, width
        raise ValueError(
            f"{n_tokens} tokens of layer {name!r} make no grid over pictures of "
            f"{size[0]} x {size[1]}."
        )


class _Enough(Exception):  # noqa: N818 (no error)
    """Ends a forward pass behind the last layer that is tapped."""


def _patch_size(module):
    """Return the (height, width) of a transformer's patches, None where unknown."""
    for owner in ("patch_embed", "config"):
        size = getattr(getattr(module, owner, None), "patch_size", None)
        if size is not None:
            return (size, size) if isinstance(size, int) else tuple(size)
    return None


def _given(backbone, layers, weights):
    if isinstance(backbone, type):
        if not issubclass(backbone, nn.Module):
            raise ValueError(
                f"backbone={backbone!r} is a class, but not one of modules."
            )
        module = _seeded(backbone)
    else:
        module = copy.deepcopy(backbone).cpu()
    if weights is not None and not _is_random(weights):
        load_arrays(module, *_arrays(weights))
    settings = getattr(module, "pretrained_cfg", None) or {}  # timm's name
    if "mean" in settings and "std" in settings:
        norms = tuple(settings["mean"]), tuple(settings["std"])
    elif type(module).__module__.startswith("torchvision.models"):
        norms = _resnet.IMAGENET
    else:
        norms = (None, None)
    return _tapped(module, layers, norms)


def _tapped(module, layers, norms):
    known = dict(module.named_modules())
    if layers is None:
        layers = ("layer2", "layer3")
        if not all(layer in known for layer in layers):
            children = [name for name, _ in module.named_children()]
            raise ValueError(
                f"layers=None, and a {type(module).__name__} has no 'layer2' and "
                f"'layer3': name the layers to tap; its parts are {children}."
            )
    unknown = [layer for layer in layers if layer not in known or layer == ""]
    if unknown or not layers:
        raise ValueError(
            f"layers={layers} must be names of parts of the backbone; "
            f"unknown: {unknown}. Its parts are "
            f"{[name for name, _ in module.named_children()]}."
        )
    first = next((m for m in module.modules() if isinstance(m, nn.Conv2d)), None)
    n_channels = None if first is None else first.in_channels
    return Backbone(Taps(module, layers), tuple(layers), n_channels, norms)


# ------------------------------------------------------------------------ by a library


def _from_library(backbone, layers, weights):
    library, _, name = backbone.partition("/")
    try:
        package = import_module(library)
    except (ImportError, RuntimeError) as error:
        raise ImportError(
            f"backbone={backbone!r} needs {library}, which cannot be imported "
            f"({error}). Install it, or pass the module itself, or a built-in backbone "
            f"such as {', '.join(map(repr, ('gabor', *_resnet.ARCHITECTURES)))}."
        ) from error
    build = {"timm": _timm, "torchvision": _torchvision, "transformers": _transformers}
    module, norms = build[library](package, name, weights)
    return _tapped(module, layers, norms)


def _timm(timm, name, weights):
    """Build by timm's name; the weights are a file, or what timm has cached."""
    if not timm.is_model(name):
        raise ValueError(f"backbone='timm/{name}' is no name that timm knows.")
    options = {"pretrained": False}
    if weights is None:
        from huggingface_hub import try_to_load_from_cache

        place = timm.get_pretrained_cfg(name).hf_hub_id
        names = "model.safetensors", "pytorch_model.bin"
        found = [try_to_load_from_cache(place, file) for file in names if place]
        found = [path for path in found if isinstance(path, str)]
        if not found:
            raise FileNotFoundError(_no_weights(f"timm/{name}"))
        options = {"pretrained": True, "pretrained_cfg_overlay": {"file": found[0]}}
    module = _seeded(partial(timm.create_model, name, **options))
    if weights is not None and not _is_random(weights):
        load_arrays(module, *_arrays(weights))
    settings = module.pretrained_cfg
    return module, (tuple(settings["mean"]), tuple(settings["std"]))


def _torchvision(torchvision, name, weights):
    """Build by torchvision's name; the weights are a file, or what torch.hub cached."""
    models = import_module("torchvision.models")
    if name not in models.list_models():
        raise ValueError(f"backbone='torchvision/{name}' is no name torchvision knows.")
    if weights is None:
        address = models.get_model_weights(name).DEFAULT.url
        weights = _cached(address.rsplit("/", 1)[-1])
        if weights is None:
            raise FileNotFoundError(_no_weights(f"torchvision/{name}"))
    module = _seeded(partial(models.get_model, name, weights=None))
    if not _is_random(weights):
        load_arrays(module, *_arrays(weights))
    return module, _resnet.IMAGENET


def _transformers(transformers, name, weights):
    """Build from a folder of `save_pretrained`, or from what transformers has cached.

    "random" needs the configuration only.
    """
    folder = name if weights is None or _is_random(weights) else os.fspath(weights)
    try:
        if _is_random(weights):
            config = transformers.AutoConfig.from_pretrained(
                folder, local_files_only=True
            )
            module = _seeded(partial(transformers.AutoModel.from_config, config))
        else:
            module = transformers.AutoModel.from_pretrained(
                folder, local_files_only=True
            )
    except (OSError, ValueError) as error:
        raise FileNotFoundError(
            _no_weights(f"transformers/{name}").replace(
                "path of a .pth, .safetensors or .npz file",
                "a folder that save_pretrained wrote",
            )
        ) from error
    try:
        file = transformers.utils.cached_file(
            folder, "preprocessor_config.json", local_files_only=True
        )
    except OSError:
        return module, None
    settings = json.loads(pathlib.Path(file).read_text("utf-8"))
    if "image_mean" not in settings:
        return module, None
    return module, (tuple(settings["image_mean"]), tuple(settings["image_std"]))


def _seeded(build):
    """Call `build` with torch's generators forked and seeded: equal random weights."""
    from skad._torch import reproducible, seed_generators

    with reproducible("cpu"):
        seed_generators(0, "cpu")
        return build()


# ----------------------------------------------------------------------------- weights


def _known_layers(layers, default, known, name):
    layers = default if layers is None else layers
    unknown = [layer for layer in layers if layer not in known]
    if unknown or not layers or len(set(layers)) < len(layers):
        raise ValueError(
            f"layers={tuple(layers)} must be different ones of {tuple(known)} for "
            f"backbone={name!r}."
        )
    return tuple(layers)


def _is_random(weights):
    return isinstance(weights, str) and weights == "random"


def _arrays(weights):
    """Return the arrays of a file or of a state dict, and what to call their source."""
    if isinstance(weights, Mapping):
        return as_arrays(weights), "a state dict"
    return read_arrays(weights), repr(os.fspath(weights))


def _cached(pattern):
    """Return a file that torch.hub has downloaded before, or None."""
    folder = pathlib.Path(torch.hub.get_dir()) / "checkpoints"
    return next(iter(sorted(folder.glob(pattern))), None)


def _no_weights(name):
    return (
        f"backbone={name!r} has no weights on this machine, and nothing is downloaded "
        "unasked. Pass weights=path of a .pth, .safetensors or .npz file, or "
        "weights='random' for an untrained network, or backbone='gabor', which needs "
        "none."
    )
