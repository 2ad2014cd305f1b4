"""Writes the stubs that say what the lazy packages hold, and in which file.

``python -m tests._stubs`` writes them anew, `test_typing` says when that is due. Type
checkers read them, and so does `skad._lazy`, so that a name is listed nowhere else. The
names are read from the sources: nothing of skad is imported.

A file of a package gives it the classes and functions whose docstring has "Examples",
and what it names in `__all__`: records, objects, what it imports, and functions on
files and findings, which have no example of a few lines.
"""

import ast
import pathlib
import re

ROOT = pathlib.Path(__file__).parents[1] / "skad"
_EXAMPLES = re.compile(r"^Examples\n-{8}$", re.MULTILINE)


def parsed(file):
    """Return the syntax tree of a file."""
    return ast.parse(file.read_text("utf-8"))


def assigned(tree, name):
    """Return the literal that a module gives to a name, None where there is none."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name:
            return ast.literal_eval(node.value)
    return None


def public_names(tree):
    """Return the names that a file of a lazy package gives to it."""
    shown = {
        node.name
        for node in tree.body
        if isinstance(node, ast.ClassDef | ast.FunctionDef)
        and _EXAMPLES.search(ast.get_docstring(node) or "")
    }
    return sorted(shown | set(assigned(tree, "__all__") or ()))


def is_lazy(init):
    """Tell whether a package imports its files when they are asked for."""
    return any(
        isinstance(node, ast.Call) and ast.unparse(node.func) == "attach"
        for node in ast.walk(parsed(init))
    )


def imported(module, names):
    """Return the lines that import names from a module for everybody to import."""
    return [f"from {module} import {name} as {name}" for name in names]


def package_stub(folder, root=ROOT):
    """Return the stub of a lazy package, a folder of the package `root`."""
    lines, public = [], []
    for file in folder.rglob("_*.py"):
        if file.name != "__init__.py":
            names = public_names(parsed(file))
            module = ".".join(file.relative_to(root.parent).with_suffix("").parts)
            lines += imported(module, names)
            public += names
    public = ", ".join(f'"{name}"' for name in sorted(public))
    return "\n".join([*sorted(lines), "", f"__all__ = [{public}]", ""])


def top_stub():
    """Return the stub of `skad` itself."""
    tree = parsed(ROOT / "__init__.py")
    families = assigned(tree, "_FAMILIES")
    lines = imported("skad", sorted([*families, *assigned(tree, "_TOOLS")]))
    lines += [f"from skad.{family} import *" for family in (*families, "calibration")]
    lines += imported("skad.persistence", assigned(tree, "_FILES"))
    functions = "def all_detectors() -> list[tuple[str, type]]: ..."
    return "\n".join([*lines, "", "__version__: str", "", functions, ""])


def stubs():
    """Return {path: text} of all stubs that are made."""
    found = {ROOT / "__init__.pyi": top_stub()}
    for file in sorted(ROOT.glob("*/__init__.py")):
        if is_lazy(file):
            found[file.with_suffix(".pyi")] = package_stub(file.parent)
    return found


if __name__ == "__main__":
    for path, text in stubs().items():
        path.write_text(text, "utf-8")
