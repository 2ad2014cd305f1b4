"""Networks by the names of timm, torchvision and transformers, never downloaded."""

import json
import os
import pathlib
from functools import partial
from importlib import import_module

from skad._needed import need_library
from skad.embedding._weights import (
    arrays_of,
    cached,
    is_random,
    load_arrays,
    no_weights,
    seeded,
)

# Mean and standard deviation of the channels of ImageNet's pictures.
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def from_library(backbone, weights):
    """Return the module of "library/name" and the normalization, None if unknown."""
    library, _, name = backbone.partition("/")
    package = need_library(backbone)
    build = {"timm": _timm, "torchvision": _torchvision, "transformers": _transformers}
    return build[library](package, name, weights)


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
            raise FileNotFoundError(no_weights(f"timm/{name}"))
        options = {"pretrained": True, "pretrained_cfg_overlay": {"file": found[0]}}
    module = seeded(partial(timm.create_model, name, **options))
    if weights is not None and not is_random(weights):
        load_arrays(module, *arrays_of(weights))
    settings = module.pretrained_cfg
    return module, (tuple(settings["mean"]), tuple(settings["std"]))


def _torchvision(torchvision, name, weights):
    """Build by torchvision's name; the weights are a file, or what torch.hub cached."""
    models = import_module("torchvision.models")
    if name not in models.list_models():
        raise ValueError(f"backbone='torchvision/{name}' is no name torchvision knows.")
    if weights is None:
        address = models.get_model_weights(name).DEFAULT.url
        weights = cached(address.rsplit("/", 1)[-1])
        if weights is None:
            raise FileNotFoundError(no_weights(f"torchvision/{name}"))
    module = seeded(partial(models.get_model, name, weights=None))
    if not is_random(weights):
        load_arrays(module, *arrays_of(weights))
    return module, IMAGENET


def _transformers(transformers, name, weights):
    """Build from a folder of `save_pretrained`, or from what transformers has cached.

    "random" needs the configuration only.
    """
    folder = name if weights is None or is_random(weights) else os.fspath(weights)
    try:
        if is_random(weights):
            config = transformers.AutoConfig.from_pretrained(
                folder, local_files_only=True
            )
            module = seeded(partial(transformers.AutoModel.from_config, config))
        else:
            module = transformers.AutoModel.from_pretrained(
                folder, local_files_only=True
            )
    except (OSError, ValueError) as error:
        raise FileNotFoundError(
            no_weights(f"transformers/{name}", "a folder that save_pretrained wrote")
        ) from error
    return module, processor_norms(folder)


def processor_norms(folder):
    """Return the norms that the processor in a folder of transformers states.

    None where there is no processor, or where it states none.
    """
    utils = import_module("transformers.utils")
    try:
        file = utils.cached_file(
            folder, "preprocessor_config.json", local_files_only=True
        )
    except (OSError, ValueError):
        return None
    settings = json.loads(pathlib.Path(file).read_text("utf-8"))
    if "image_mean" not in settings:
        return None
    return tuple(settings["image_mean"]), tuple(settings["image_std"])
