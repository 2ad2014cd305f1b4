"""Optional packages: what needs one asks for it before the work begins, not after."""

from importlib import import_module

# What a package is called where it is installed from, if not as it is imported.
PROJECTS = {"PIL": "Pillow"}
# The extra that brings a package; others are installed by their own names.
EXTRAS = {
    "PIL": "image",
    "matplotlib": "report",
    "onnx": "export",
    "onnxscript": "export",
    "pandas": "report",
    "pyarrow": "parquet",
    "pynndescent": "neighbors",
    "statsmodels": "season",
    "transformers": "transformers",
}
# Whose networks are named as ``backbone="library/name"``.
LIBRARIES = ("timm", "torchvision", "transformers")


def need(module, purpose, instead=""):
    """Return a module of an optional package.

    Parameters
    ----------
    module : str
        Its name.
    purpose : str
        What needs it, the beginning of the message.
    instead : str, default=""
        What else the user may do, the end of the message.

    Raises
    ------
    ImportError
        Where it cannot be imported; says how to install the package.
    """
    package = module.partition(".")[0]
    try:
        import_module(package)
        return import_module(module)
    except (ImportError, RuntimeError) as error:  # builds that do not fit each other
        name = PROJECTS.get(package, package)
        line = f"'skad[{EXTRAS[package]}]'" if package in EXTRAS else name
        absent = isinstance(error, ModuleNotFoundError) and error.name == package
        reason = "" if absent else f", which cannot be imported ({error})"
        raise ImportError(
            f"{purpose} needs {name}{reason}: pip install {line}{instead}"
        ) from error


def need_library(backbone):
    """Return the package of a backbone that is named as "library/name"."""
    return need(
        backbone.partition("/")[0],
        f"backbone={backbone!r}",
        ", or pass the module itself, or a built-in backbone such as 'gabor', "
        "'resnet18' or 'wide_resnet50_2'",
    )


def need_chosen(estimator):
    """Ask for what parameters stand for, those of estimators in the estimator too.

    A member of an ensemble, or the detector in a lift, would ask when the others have
    learned.
    """
    try:
        parameters = estimator.get_params()
    except TypeError:  # of a class among the members, which their check names
        return
    for name, value in parameters.items():
        if not isinstance(value, str):
            continue
        if name.endswith("algorithm") and value == "pynndescent":
            need(value, f"algorithm={value!r}")
        if name.endswith("backbone") and value.partition("/")[0] in LIBRARIES:
            need_library(value)
