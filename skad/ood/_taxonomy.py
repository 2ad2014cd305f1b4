"""Classes below super-classes, and which children of these they lie below."""

import numpy as np


def lineages(classes, hierarchy):
    """Return the super-classes of each class, from its parent to the root.

    Parameters
    ----------
    classes : list
        Class labels.
    hierarchy : mapping or None
        From a class or super-class to its parent; those at the top have none, or None.
        None puts all classes below one root.
    """
    if hierarchy is None:
        return [["root"] for _ in classes]
    found = []
    for label in classes:
        above, at = [], hierarchy.get(label)
        if at is None:
            raise ValueError(f"hierarchy has no super-class for the class {label!r}.")
        while at is not None:
            if at in above:
                raise ValueError(f"hierarchy goes round in a circle at {at!r}.")
            if at in classes:
                raise ValueError(f"hierarchy puts {label!r} below the class {at!r}.")
            above.append(at)
            at = hierarchy.get(at)
        found.append(above)
    return found


def branches(classes, above):
    """Return the super-classes, and below which of their children outputs lie.

    Parameters
    ----------
    classes : list
        Class labels, c of them.
    above : list of list
        As `lineages` returns them.

    Returns
    -------
    super_classes : list
        s of them, in the order in which classes name them.
    found : ndarray of shape (s, c + s)
        Of a super-class and an output, which is a class or the novel one of a
        super-class, the child of the first that the second lies below: a number that
        is the same where it is the same child, and -1 where the output lies below none.
    """
    super_classes = list(dict.fromkeys(each for own in above for each in own))
    places = {name: i for i, name in enumerate(super_classes)}
    found = np.full((len(places), len(classes) + len(places)), -1)
    for leaf, own in enumerate(above):
        way = [leaf, *(len(classes) + places[name] for name in own)]
        for depth, name in enumerate(own):
            # what lies on the way to `name` is below the child that is the way's last
            found[places[name], way[: depth + 1]] = way[depth]
    return super_classes, found


def levels(above):
    """Return super-classes from the top down, and lineages that end in one top.

    Parameters
    ----------
    above : list of list
        As `lineages` returns them. Where they end in several, "root" comes above.
    """
    names = {name for own in above for name in own}
    if len({own[-1] for own in above}) > 1:
        root = "root"
        while root in names:
            root += "_"
        above = [[*own, root] for own in above]
    depths = {}
    for own in above:
        depths |= {name: i for i, name in enumerate(reversed(own))}
    return sorted(depths, key=depths.get), above


def choices(classes, above):
    """Return the super-classes with several children, and which one classes lie below.

    Parameters
    ----------
    classes : list
        Class labels, c of them.
    above : list of list
        As `lineages` returns them.

    Returns
    -------
    super_classes : list
        s of them, from the top down.
    found : ndarray of shape (s, c)
        Numbers of the child of each, from 0, and -1 of classes that lie below none.
    """
    order, above = levels(above)
    names, found = branches(classes, above)
    rows, kept = [], []
    for name in order:
        own = found[names.index(name), : len(classes)]
        below = own >= 0
        children, codes = np.unique(own[below], return_inverse=True)
        if len(children) > 1:  # where there is no choice nothing is to be learned
            row = np.full(len(classes), -1)
            row[below] = codes
            rows, kept = [*rows, row], [*kept, name]
    return kept, np.array(rows)
