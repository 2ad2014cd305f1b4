"""Writes the stubs that tell type checkers what the lazy packages hold.

``python -m tests._stubs`` writes them anew, `test_typing` says when that is due. The
names are read from the sources: nothing of skad is imported.
"""

import ast
import pathlib

ROOT = pathlib.Path(__file__).parents[1] / "skad"


def parsed(package):
    """Return the syntax tree of a package's `__init__`."""
    return ast.parse((ROOT / package / "__init__.py").read_text("utf-8"))


def assigned(tree, name):
    """Return the literal that a module gives to a name, None where there is none."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name:
            return ast.literal_eval(node.value)
    return None


def attached(tree):
    """Return {module: names} of a lazy package, None of one that imports at once."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "attach":
            return ast.literal_eval(node.args[1])
    return None


def exported(package):
    """Return the public names of a package."""
    files = attached(parsed(package))
    if files is None:
        return assigned(parsed(package), "__all__")
    return [name for names in files.values() for name in names]


def imported(module, names):
    """Return the lines that import names from a module for everybody to import."""
    return [f"from {module} import {name} as {name}" for name in sorted(names)]


def package_stub(package, files):
    """Return the stub of a lazy package."""
    lines = []
    for file, names in files.items():
        lines += imported(f"skad.{package}.{file}", names)
    names = ", ".join(f'"{name}"' for name in sorted(exported(package)))
    return "\n".join([*sorted(lines), "", f"__all__ = [{names}]", ""])


def top_stub():
    """Return the stub of `skad` itself, where each name is its first family's."""
    tree = parsed("")
    families = assigned(tree, "_FAMILIES")
    lines, taken = imported("skad", families + assigned(tree, "_TOOLS")), set()
    for family in (*families, "calibration"):
        names = set(exported(family)) - taken
        lines += imported(f"skad.{family}", names)
        taken |= names
    lines += imported("skad.persistence", assigned(tree, "_FILES"))
    functions = "def all_detectors() -> list[tuple[str, type]]: ..."
    return "\n".join([*lines, "", "__version__: str", "", functions, ""])


def stubs():
    """Return {path: text} of all stubs that are made."""
    found = {ROOT / "__init__.pyi": top_stub()}
    for file in sorted(ROOT.glob("*/__init__.py")):
        files = attached(ast.parse(file.read_text("utf-8")))
        if files is not None:
            found[file.with_suffix(".pyi")] = package_stub(file.parent.name, files)
    return found


if __name__ == "__main__":
    for path, text in stubs().items():
        path.write_text(text, "utf-8")
