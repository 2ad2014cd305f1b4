"""Constructor parameters that are stated once and shared by many methods.

A class states a parameter by an annotated attribute with its default, the values that
are accepted in `_parameter_constraints`, and the meaning under "Parameters" of its
docstring. `with_parameters` puts what the class inherits beside it, with the class's
own defaults: into the signature, the constraints and the docstring. Editors and type
checkers read the same annotations, as they do those of dataclasses.
"""

import re
from abc import update_abstractmethods
from collections.abc import Callable
from dataclasses import KW_ONLY
from inspect import Parameter, Signature, cleandoc, get_annotations
from itertools import chain, groupby, pairwise
from typing import (
    Any,
    ClassVar,
    Literal,
    NamedTuple,
    TypeVar,
    dataclass_transform,
    get_origin,
    overload,
)

__all__ = ["KW_ONLY", "absent", "with_parameters"]

T = TypeVar("T")

_DEFAULT = re.compile("default=.+")


def absent(*, init: Literal[False] = False) -> Any:
    """Return what a class assigns to a parameter of a base that makes no sense in it.

    ``contamination: Any = absent()``, which type checkers read as no parameter, by the
    default of `init`.
    """
    return _Absent()


@overload
def with_parameters(cls: type[T]) -> type[T]: ...


@overload
def with_parameters(*, kw_only: bool = True) -> Callable[[type[T]], type[T]]: ...


@dataclass_transform(kw_only_default=True, field_specifiers=(absent,))
def with_parameters(cls: Any = None, *, kw_only: bool = True) -> Any:
    """Give a class a constructor that keeps its annotated attributes as parameters.

    What decorated bases state is inherited, so that what many methods share (the
    training, the backbone) is stated once. What a class states first comes before what
    its bases do, the nearest of them first. A parameter that is `absent` is not
    inherited; `_without` names fitted attributes that are not there.

    With ``kw_only=False`` the parameters above a line ``_: KW_ONLY`` need no keyword,
    and come before all others; subclasses inherit that.
    """
    if cls is None:
        return lambda cls: _made(cls, kw_only)
    return _made(cls, kw_only)


class _Statement(NamedTuple):
    """What a class itself states, as its subclasses look it up."""

    parameters: list
    positional: list
    without: tuple
    constraints: dict
    documented: dict  # the entries {name: text} of "Parameters"
    fitted: dict  # and of "Attributes"


class _Absent:
    """Stands where a class has no such parameter though a base of it does."""

    def __set_name__(self, owner, name):
        self.name = name

    def __get__(self, instance, owner):
        raise AttributeError(f"{owner.__name__} has no parameter {self.name!r}")


def _made(cls, kw_only):
    doc = vars(cls).get("__doc__")  # None with python -OO
    sections = _sections(doc) if doc else {}
    cls._statement = _Statement(
        *_stated(cls, kw_only),
        (*vars(cls).get("_without", ()), *_absent_of(cls)),
        vars(cls).get("_parameter_constraints", {}),
        _entries(sections.get("Parameters", [])),
        _entries(sections.get("Attributes", [])),
    )
    statements = [
        vars(base)["_statement"] for base in cls.__mro__ if "_statement" in vars(base)
    ]
    names, positional = _composed(statements)
    constraints = _nearest(statement.constraints for statement in statements)
    cls._parameter_constraints = {n: constraints[n] for n in names if n in constraints}
    defaults = {name: getattr(cls, name) for name in names}
    if doc:
        cls.__doc__ = _document(sections, statements, defaults)
    _construct(cls, defaults, positional)
    return update_abstractmethods(cls)  # the constructor is one in _BaseComposition


def _stated(cls, kw_only):
    """Return the parameters that a class itself states, and those without keyword."""
    stated, positional, behind = [], [], kw_only
    for name, kind in get_annotations(cls).items():
        if name == "_":
            behind = True
        elif name not in _absent_of(cls) and not _is_class_variable(kind):
            stated.append(name)
            if not behind:
                positional.append(name)
    return stated, positional


def _absent_of(cls):
    """Return the names of the parameters that a class itself takes away."""
    return [name for name, value in vars(cls).items() if isinstance(value, _Absent)]


def _is_class_variable(kind):
    if isinstance(kind, str):
        return kind.removeprefix("typing.").startswith("ClassVar")
    return kind is ClassVar or get_origin(kind) is ClassVar


def _nearest(found):
    """Return one dict of several, where the first that has a key counts."""
    result = {}
    for one in found:
        for key, value in one.items():
            result.setdefault(key, value)
    return result


def _composed(statements):
    """Return the parameters of a class in order, and those that need no keyword."""
    groups, positional = [], []
    for statement in reversed(statements):
        groups = [[n for n in group if n not in statement.without] for group in groups]
        known = set(chain(*groups))
        groups.append([name for name in statement.parameters if name not in known])
        again = set(statement.parameters)  # its latest statement counts
        positional = [name for name in positional if name not in again]
        positional += statement.positional
    names = list(chain(*reversed(groups)))
    positional = [name for name in positional if name in names]
    return list(dict.fromkeys([*positional, *names])), positional


def _construct(cls, defaults, positional):
    """Give a class its constructor."""
    kinds = {True: Parameter.POSITIONAL_OR_KEYWORD, False: Parameter.KEYWORD_ONLY}
    signature = Signature(
        [Parameter("self", Parameter.POSITIONAL_OR_KEYWORD)]
        + [
            Parameter(name, kinds[name in positional], default=default)
            for name, default in defaults.items()
        ]
    )

    def initialize(self, *args, **kwargs):
        try:
            values = signature.bind(self, *args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{cls.__name__}: {error}") from None
        vars(self).update(defaults)
        vars(self).update(list(values.arguments.items())[1:])

    initialize.__name__ = "__init__"
    initialize.__qualname__ = f"{cls.__qualname__}.__init__"
    initialize.__module__ = cls.__module__
    initialize.__signature__ = signature
    cls.__init__ = initialize


# ------------------------------------------------------------------------- docstrings


def _document(sections, statements, defaults):
    """Return the docstring with what the class inherits, nearest first."""
    documented = _nearest(statement.documented for statement in statements)
    documented = {
        name: _with_default(documented[name], default)
        for name, default in defaults.items()
        if name in documented
    }
    fitted, gone = {}, set()
    for statement in statements:
        new = {n: t for n, t in statement.fitted.items() if n not in fitted}
        fitted |= {name: text for name, text in new.items() if name not in gone}
        gone |= set(statement.without)
    composed = {
        "": sections[""],
        "Parameters": _listed(documented),
        "Attributes": _listed(fitted),
    }
    parts = []
    for title, lines in {**composed, **sections, **composed}.items():  # in this order
        text = "\n".join(lines).strip("\n")
        if text:
            parts.append(f"{title}\n{'-' * len(title)}\n{text}" if title else text)
    return "\n\n".join(parts) + "\n"


def _sections(doc):
    """Return {title: lines} of a docstring, what comes before any title under ""."""
    lines = cleandoc(doc).split("\n")
    rules = [
        i for i, line in enumerate(lines) if line[:3] == "---" and not line.strip("-")
    ]
    stops = [i - 1 for i in rules] + [len(lines)]
    found = {"": lines[: stops[0]]}
    for rule, stop in zip(rules, stops[1:], strict=True):
        found[lines[rule - 1]] = lines[rule + 1 : stop]
    return found


def _entries(lines):
    """Return {name: what follows it} of a section; in `a, b : type` both have that."""
    starts = [i for i, line in enumerate(lines) if line and line[0] != " "]
    found = {}
    for start, stop in pairwise([*starts, len(lines)]):
        names, colon, kind = lines[start].partition(" : ")
        text = "\n".join([colon + kind, *lines[start + 1 : stop]]).rstrip("\n")
        found |= dict.fromkeys(names.split(", "), text)
    return found


def _listed(entries):
    """Return the entries as lines; neighbours that share a text are one entry again."""
    runs = groupby(entries, key=lambda name: id(entries[name]))
    runs = [list(run) for _, run in runs]
    return [", ".join(run) + entries[run[0]] for run in runs]


def _with_default(text, default):
    """Return an entry that states another default."""
    shown = f"default={default!r}".replace("'", '"')
    stated = _DEFAULT.search(text)
    if stated is None or stated[0] == shown:
        return text
    return text[: stated.start()] + shown + text[stated.end() :]
