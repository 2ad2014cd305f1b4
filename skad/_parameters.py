"""Constructor parameters that are stated once and shared by many methods."""

from dataclasses import dataclass
from inspect import get_annotations, signature


def with_parameters(cls):
    """Make annotated defaults the constructor's keywords, own ones first.

    The annotations of a base class are inherited, so that what many methods share (the
    training, the backbone) is stated once.
    """
    own = list(get_annotations(cls))
    cls = dataclass(kw_only=True, eq=False, repr=False)(cls)
    known = signature(cls.__init__).parameters
    order = ["self", *own, *(name for name in known if name not in own)]
    order = list(dict.fromkeys(order))
    cls.__init__.__signature__ = signature(cls.__init__).replace(
        parameters=[known[name] for name in order]
    )
    return cls
