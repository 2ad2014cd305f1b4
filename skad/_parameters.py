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
from inspect import Parameter, Signature, get_annotations
from typing import Any, ClassVar, TypeVar, dataclass_transform, get_origin, overload

__all__ = ["KW_ONLY", "with_parameters"]

T = TypeVar("T")

# Sections that a class takes over from its bases, entry by entry.
_SHARED_SECTIONS = ("Parameters", "Attributes")
_RULE = re.compile(r"^( *)(\w[\w ]*)\n\1-{3,}\n", re.MULTILINE)
_ENTRY = re.compile(r"^(\S.*?) : ", re.MULTILINE)
_DEFAULT = re.compile(r"default=(.+)$", re.MULTILINE)


@overload
def with_parameters(cls: type[T]) -> type[T]: ...


@overload
def with_parameters(*, kw_only: bool = True) -> Callable[[type[T]], type[T]]: ...


@dataclass_transform(kw_only_default=True)
def with_parameters(cls: Any = None, *, kw_only: bool = True) -> Any:
    """Give a class a constructor that keeps its annotated attributes as parameters.

    The annotations of base classes are inherited, so that what many methods share (the
    training, the backbone) is stated once. New ones come first, then those named in
    `_leading`, then the others from the top of the hierarchy down. `_without` names
    inherited ones that make no sense here, which lose their constraints as well.

    With ``kw_only=False`` the parameters above a line ``_: KW_ONLY`` need no keyword,
    and come before all others; subclasses inherit that.
    """
    if cls is None:
        return lambda cls: _made(cls, kw_only)
    return _made(cls, kw_only)


def _made(cls, kw_only):
    own = _stated(cls)
    if not kw_only:
        names = [*get_annotations(cls), "_"]
        own_positional = names[: names.index("_")]
        cls._positional = (*getattr(cls, "_positional", ()), *own_positional)
    inherited = []
    for base in reversed(cls.__mro__[1:]):
        inherited += [name for name in _stated(base) if name not in inherited]
    new = [name for name in own if name not in inherited]
    positional = getattr(cls, "_positional", ())
    leading = getattr(cls, "_leading", ())
    without = getattr(cls, "_without", ())
    names = dict.fromkeys([*positional, *new, *leading, *inherited])
    names = [name for name in names if name in own or name not in without]
    cls._parameter_constraints = _constraints(cls, names)
    _document(cls, names)
    made = Signature(
        [Parameter("self", Parameter.POSITIONAL_OR_KEYWORD)]
        + [
            Parameter(
                name,
                Parameter.POSITIONAL_OR_KEYWORD
                if name in positional
                else Parameter.KEYWORD_ONLY,
                default=getattr(cls, name),
            )
            for name in names
        ]
    )

    def initialize(self, *args, **kwargs):
        try:
            values = made.bind(self, *args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{cls.__name__}: {error}") from None
        values.apply_defaults()
        vars(self).update(list(values.arguments.items())[1:])

    initialize.__name__ = "__init__"
    initialize.__qualname__ = f"{cls.__qualname__}.__init__"
    initialize.__signature__ = made
    cls.__init__ = initialize
    return update_abstractmethods(cls)


def _stated(cls):
    """Return the names of the parameters that a class itself states."""
    return [
        name
        for name, kind in get_annotations(cls).items()
        if name != "_" and kind is not ClassVar and get_origin(kind) is not ClassVar
    ]


def _constraints(cls, names):
    """Return what is accepted for each parameter, the class's own statement first."""
    found = {}
    for base in reversed(cls.__mro__):
        found |= vars(base).get("_parameter_constraints", {})
    return {name: found[name] for name in names if name in found}


# ------------------------------------------------------------------------- docstrings


def _document(cls, names):
    """Put what the class inherits into its docstring; keep its own part aside."""
    doc = cls.__doc__ if "__doc__" in vars(cls) else None
    if not doc:
        return
    indent, parts = _split(doc)
    cls._own_entries = {
        title: _entries(text) for title, text in parts if title in _SHARED_SECTIONS
    }
    bases = [base for base in cls.__mro__ if "_own_entries" in vars(base)]
    for title in _SHARED_SECTIONS:
        found = {}
        for base in reversed(bases):
            found |= vars(base)["_own_entries"].get(title, {})
        if title == "Parameters":
            found = {
                name: _with_default(found[name], getattr(cls, name))
                for name in names
                if name in found
            }
        else:
            # what a class learns itself before what every class has
            own = cls._own_entries.get(title, {})
            found = {**own, **found}
        parts = _replaced(parts, title, "".join(found.values()))
    cls.__doc__ = _joined(indent, parts)


def _split(doc):
    """Return the indentation and [(title, text)], the summary under None, dedented."""
    match = _RULE.search(doc)
    indent = match[1] if match else ""
    lines = [line.removeprefix(indent) for line in doc.split("\n")]
    parts = re.split(_RULE, "\n".join(lines))
    titled = zip(parts[2::3], parts[3::3], strict=True)
    return indent, [(None, parts[0]), *titled]


def _entries(text):
    """Return {name: entry} of a section; `a, b : type` is one entry under "a, b"."""
    starts = [match.start() for match in _ENTRY.finditer(text)]
    bounds = [*starts, len(text)]
    found = {}
    for start, stop in zip(starts, bounds[1:], strict=True):
        entry = text[start:stop].rstrip("\n") + "\n"
        found[_ENTRY.match(entry)[1]] = entry
    return found


def _with_default(entry, default):
    """Return an entry that states another default."""
    return _DEFAULT.sub(lambda _: f"default={default!r}".replace("'", '"'), entry, 1)


def _replaced(parts, title, text):
    """Return the sections with one replaced, or put in behind the parameters."""
    if not text:
        return parts
    text += "\n"
    if any(name == title for name, _ in parts):
        return [(name, text if name == title else old) for name, old in parts]
    where = 1 + max(
        i for i, (name, _) in enumerate(parts) if name in (None, "Parameters")
    )
    return [*parts[:where], (title, text), *parts[where:]]


def _joined(indent, parts):
    text = parts[0][1]
    for title, body in parts[1:]:
        text += f"{title}\n{'-' * len(title)}\n{body}"
    lines = [indent + line if line else line for line in text.split("\n")]
    lines[0] = lines[0].removeprefix(indent)
    return "\n".join(lines)
