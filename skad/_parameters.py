"""Constructor parameters that are stated once and shared by many methods."""

from inspect import Parameter, Signature, get_annotations


def with_parameters(cls):
    """Give a class a constructor that keeps its annotated attributes as parameters.

    The annotations of base classes are inherited, so that what many methods share (the
    training, the backbone) is stated once. New ones come first, then those named in
    `_leading`, then the others from the top of the hierarchy down. `_positional` names
    the parameters that need no keyword and come before all others, `_without` inherited
    ones that make no sense here, which lose their constraints as well.
    """
    names = []
    for base in reversed(cls.__mro__[1:]):
        names += [name for name in get_annotations(base) if name not in names]
    new = [name for name in get_annotations(cls) if name not in names]
    positional = getattr(cls, "_positional", ())
    leading = getattr(cls, "_leading", ())
    names = list(dict.fromkeys([*positional, *new, *leading, *names]))
    without = getattr(cls, "_without", ())
    names = [name for name in names if name not in without]
    if without:
        cls._parameter_constraints = {
            name: constraint
            for name, constraint in cls._parameter_constraints.items()
            if name not in without
        }
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
    return cls
