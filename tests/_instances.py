"""The detectors that the common tests hold to their contracts, in which settings.

`skad.all_detectors` finds them; `tests/settings` holds what is to be known of one,
in a file of its family.
"""

import functools
import re

import torch._dynamo  # noqa: F401 - or the first training that is measured would
from sklearn.base import clone

import skad
from tests import _classifiers, _labelled, _paired
from tests._classifiers import bumps
from tests.settings import Settings, find_settings

SETTINGS = find_settings()


def settings_of(name):
    """Return the settings of a class, those of an ordinary one where it has none."""
    return SETTINGS.get(name, Settings())


@functools.cache
def _needs_labels():
    """Return the classes that take a classifier which their `fit` has to train."""
    return [
        name
        for name, detector in skad.all_detectors()
        if detector._data == "classifier"
        and not settings_of(name).own_labels
        and detector().__sklearn_tags__().target_tags.required
    ]


# Classes whose `fit` needs class labels as long as their classifier is not fitted. In
# the common tests, which call fit(X), they have a classifier that labels rows itself.
NEEDS_LABELS = {name: settings_of(name).classifier or bumps for name in _needs_labels()}

# Constructor arguments that make a class cheap or possible to build, by class name.
CHEAP = {name: settings.cheap for name, settings in SETTINGS.items()}
for _name, _classifier in NEEDS_LABELS.items():
    CHEAP[_name] = {"classifier": _classifier(), **CHEAP.get(_name, {})}

# Further settings of a class, by class name.
VARIANTS = {name: found.variants for name, found in SETTINGS.items() if found.variants}

# Classes whose own `fit` needs class labels, whatever the classifier: the contract has
# them label their rows themselves, other tests that call fit(X) alone leave them out.
OWN_LABELS = {
    name: found.own_labels for name, found in SETTINGS.items() if found.own_labels
}


def labels_for(name, X):
    """Return the labels (n,) that `fit` of a class needs of rows, or None."""
    if name not in OWN_LABELS:
        return None
    return (settings_of(name).labels or _classifiers.own_labels)(X)


# check_estimator's expected failures by class name: {check: reason}. Only what cannot
# hold by the nature of a method belongs here.
_NO_LABELS = "calls fit(X) alone, and the classifier cannot be fitted without labels"
_CHECKS = {
    name: {
        check: reason
        for check, reason in found.excused.items()
        if str(check).startswith("check_")
    }
    for name, found in SETTINGS.items()
}
EXPECTED_FAILURES = {name: found for name, found in _CHECKS.items() if found}
for _name in [*NEEDS_LABELS, *OWN_LABELS]:
    EXPECTED_FAILURES[_name] = {
        **dict.fromkeys(
            ["check_outliers_fit_predict", "check_outliers_train"], _NO_LABELS
        ),
        **EXPECTED_FAILURES.get(_name, {}),
    }

# The same for any detector of series whose windows have more than one step.
_NEIGHBOURS = "a time step's score depends on the steps around it"
OVER_WINDOWS = dict.fromkeys(
    ["check_methods_subset_invariance", "check_methods_sample_order_invariance"],
    _NEIGHBOURS,
)


def excused(detector, test):
    """Return why a test ("sign", ...) cannot hold for a detector, or None."""
    found = settings_of(type(detector).__name__).excused
    # a classifier as text takes longer than many a fit
    if test in found or not any(way[0] == test for way in found):
        return found.get(test)
    settings = detector.get_params(deep=False)
    ways = [(test, value) for value in settings.values() if isinstance(value, str)]
    ways += [(test, f"{name}={value}") for name, value in settings.items()]
    return next((found[way] for way in ways if way in found), None)


def looks_around(detector):
    """Tell whether a row's score depends on the rows around it."""
    if excused(detector, "rows around"):
        return True
    return getattr(detector, "window_size", 1) != 1


def class_of(name):
    """Return a public detector's class, one that takes rows where these are no pairs.

    Of a class whose samples are pairs of pictures that is a test's own (`_paired`).
    """
    return getattr(_paired if settings_of(name).pairs else skad, name)


def default_instance(name):
    """Return a detector with the cheapest settings that take its usual path."""
    return class_of(name)(**CHEAP.get(name, {}))


def default_instances():
    """Return one instance of every public detector that fit(X) is enough for."""
    return [
        default_instance(name)
        for name, _ in skad.all_detectors()
        if name not in OWN_LABELS
    ]


def variant_instances():
    """Return every public detector in the settings beside its default."""
    return [
        default_instance(name).set_params(**setting)
        for name, _ in skad.all_detectors()
        for setting in VARIANTS.get(name, [])
    ]


def instances():
    """Return every public detector in every setting that the common tests cover."""
    return default_instances() + variant_instances()


def self_labelling_instances():
    """Return those of OWN_LABELS so that fit(X) is enough for them too."""
    found = [getattr(_labelled, name)(**CHEAP.get(name, {})) for name in OWN_LABELS]
    for detector in found:
        if "classifier" in detector.get_params(deep=False):
            detector.set_params(classifier=bumps())
    return found


def labelled_instances():
    """Return those that need labels with the classifier that is their default.

    Those that need other labels than scikit-learn's checks pass make them of these.
    """
    found = []
    for name in [*NEEDS_LABELS, *OWN_LABELS]:
        settings = {k: v for k, v in CHEAP.get(name, {}).items() if k != "classifier"}
        module = _labelled if settings_of(name).labels else skad
        found.append(getattr(module, name)(**settings))
    return found


def brief(detectors, max_epochs=2):
    """Return copies whose networks hardly train, for what does not need them to.

    That is everything but how well they detect; two epochs still have a next one.
    """
    lengths = {"max_epochs": max_epochs, "pretrain_epochs": 1, "n_search_steps": 2}
    return [
        clone(detector).set_params(
            **{
                name: length
                for name, length in lengths.items()
                if name in detector.get_params(deep=False)
            }
        )
        for detector in detectors
    ]


def quick(detectors, max_epochs=2):
    """Return brief copies that fit once: the threshold is a quantile, not honest."""
    found = brief(detectors, max_epochs)
    for one in found:
        if "contamination" in one.get_params(deep=False):
            one.set_params(contamination=0.1)
    return found


def identify(detector):
    """Return a test id: the class and the parameters that differ from its defaults."""
    # without addresses, which differ between the processes of a parallel run
    return re.sub(r"\s+|at0x[0-9a-f]+|at 0x[0-9a-f]+", "", repr(detector))


def seeded(detector):
    """Return a clone that draws the same in every fit: every random_state is 0."""
    names = [n for n in detector.get_params() if n.split("__")[-1] == "random_state"]
    return clone(detector).set_params(**dict.fromkeys(names, 0))
