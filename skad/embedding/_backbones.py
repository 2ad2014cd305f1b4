"""What a name, a file, a class or a module of a backbone stands for."""

import os
import pathlib
from dataclasses import dataclass

import torch
from torch import nn

from skad._copies import copied
from skad._needed import LIBRARIES
from skad.embedding import _gabor, _mobilenet, _resnet
from skad.embedding._libraries import IMAGENET, from_library
from skad.embedding._taps import Taps
from skad.embedding._weights import (
    arrays_of,
    cached,
    is_random,
    load_arrays,
    no_weights,
    read_arrays,
    seeded,
)

HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


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
    elif str(backbone).split("/")[0] in LIBRARIES:
        module, norms = from_library(backbone, weights)
        found = _tapped(module, layers, norms)
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


def _resnet_named(name, layers, weights, read=None):
    """Return a ResNet; `read` holds the arrays of the file where it was read before."""
    layers = _known_layers(layers, ("layer2", "layer3"), _resnet.LAYERS, name)
    if weights is None:
        weights = cached(f"{name}-*.pth")
    if weights is None:
        raise FileNotFoundError(no_weights(name))
    module = _resnet.skeleton(name, layers, norm=False)
    if is_random(weights):
        arrays, source = _resnet.random_arrays(module, seed=0), "'random'"
    else:
        arrays, source = (read, repr(weights)) if read else arrays_of(weights)
    load_resnet(name, module, arrays, source)
    return Backbone(module, layers, 3, IMAGENET)


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
        raise FileNotFoundError(no_weights(name))
    with torch.device("meta"):
        module = _mobilenet.MobileNetV2(layers)
        whole = _mobilenet.MobileNetV2(_mobilenet.LAYERS).state_dict()
    if is_random(weights):
        arrays, source = _resnet.random_arrays(module, seed=0), "'random'"
    else:
        arrays, source = arrays_of(weights)
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
            return _resnet_named(name, layers, os.fspath(path), arrays)
        except ValueError as error:
            faults.append(f"{name}: {error}")
    raise ValueError(
        f"backbone={os.fspath(path)!r} fits none of the architectures known here:\n"
        + "\n".join(faults)
    )


# -------------------------------------------------------------------- any other module


def _given(backbone, layers, weights):
    module, norms = given_module(backbone, weights)
    return _tapped(module, layers, (None, None) if norms is None else norms)


def given_module(backbone, weights):
    """Return a copy of a module, or one of a class, and its norms, None if unknown."""
    if isinstance(backbone, type):
        if not issubclass(backbone, nn.Module):
            raise ValueError(
                f"backbone={backbone!r} is a class, but not one of modules."
            )
        module = seeded(backbone)
    else:
        module = copied(backbone).cpu()
    if weights is not None and not is_random(weights):
        load_arrays(module, *arrays_of(weights))
    settings = getattr(module, "pretrained_cfg", None) or {}  # timm's name
    if "mean" in settings and "std" in settings:
        return module, (tuple(settings["mean"]), tuple(settings["std"]))
    of_torchvision = type(module).__module__.startswith("torchvision.models")
    return module, IMAGENET if of_torchvision else None


def n_channels_of(module):
    """Return how many channels a module takes, None where any number will do."""
    first = next((m for m in module.modules() if isinstance(m, nn.Conv2d)), None)
    return None if first is None else first.in_channels


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
    taps = Taps(module, layers)
    return Backbone(taps, tuple(layers), n_channels_of(module), norms)


def _known_layers(layers, default, known, name):
    layers = default if layers is None else layers
    unknown = [layer for layer in layers if layer not in known]
    if unknown or not layers or len(set(layers)) < len(layers):
        raise ValueError(
            f"layers={tuple(layers)} must be different ones of {tuple(known)} for "
            f"backbone={name!r}."
        )
    return tuple(layers)
