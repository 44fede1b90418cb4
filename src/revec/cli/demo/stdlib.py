"""The docstrings of Python's standard library, read from its source files, never imported."""

from __future__ import annotations

import ast
import inspect
import os
import sysconfig
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

# ntpath repeats os.path nearly word for word; the others are programs, old tools and tests.
SKIPPED = {"distutils", "ensurepip", "idlelib", "lib2to3", "ntpath", "test", "tests", "turtledemo"}
KNOWN_AS = {  # where the source is differs between versions; the name people import does not
    "_collections_abc": "collections.abc",
    "_pydatetime": "datetime",
    "_pydecimal": "decimal",
    "_pyio": "io",
    "_threading_local": "threading",
    "_weakrefset": "weakref",
    "genericpath": "os.path",
    "posixpath": "os.path",
}
Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True)
class Doc:
    key: str  # the qualified name, e.g. `pathlib.Path.glob`
    title: str
    body: str


def documents() -> Iterator[Doc]:
    """Every documented public module, class, function and method, always in the same order."""
    seen: set[str] = set()
    imports: dict[str, set[tuple[str, str]]] = {}
    for module, tree in modules(Path(sysconfig.get_paths()["stdlib"])):
        imports[module] = imported_names(module, tree)
        package = module.rpartition(".")[0]
        lifted = {name for source, name in imports.get(package, ()) if source == module}
        if "*" in lifted:
            lifted |= star_names(tree)
        itself = [] if module in KNOWN_AS else [("", tree)]  # that text is about the source
        for path, node in [*itself, *definitions(tree.body)]:
            home = package if path.split(".")[0] in lifted else KNOWN_AS.get(module, module)
            key = f"{home}.{path}".rstrip(".")
            body = inspect.cleandoc(ast.get_docstring(node, clean=False) or "")
            if body and key not in seen and "._" not in f".{key}":
                seen.add(key)
                yield Doc(key, key + signature(node), body)


def signature(node: Definition | ast.Module) -> str:
    return "" if isinstance(node, ast.Module | ast.ClassDef) else f"({ast.unparse(node.args)})"


def modules(root: Path) -> Iterator[tuple[str, ast.Module]]:
    """By dotted name; a package comes before its submodules, `site-packages` does not come."""
    for folder, subfolders, files in os.walk(root):
        subfolders[:] = sorted(s for s in subfolders if s.isidentifier() and s not in SKIPPED)
        for path in sorted(Path(folder, file) for file in files if file.endswith(".py")):
            parts = path.relative_to(root).with_suffix("").parts
            try:
                tree = ast.parse(path.read_bytes())
            except (SyntaxError, ValueError):  # some distributions ship templates as .py
                continue
            if path.stem not in SKIPPED:
                yield ".".join(part for part in parts if part != "__init__"), tree


def definitions(body: Sequence[ast.stmt], inside: str = "") -> Iterator[tuple[str, Definition]]:
    for node in statements(body):
        if isinstance(node, Definition):
            yield inside + node.name, node
        if isinstance(node, ast.ClassDef):
            yield from definitions(node.body, f"{inside}{node.name}.")


def statements(body: Sequence[ast.AST]) -> Iterator[ast.AST]:
    """Those at this level, also the ones that only some systems reach."""
    for node in body:
        yield node
        if isinstance(node, ast.If | ast.Try | ast.ExceptHandler):
            yield from statements(list(ast.iter_child_nodes(node)))


def imported_names(module: str, tree: ast.Module) -> set[tuple[str, str]]:
    found = [node for node in statements(tree.body) if isinstance(node, ast.ImportFrom)]
    source = {node: f"{module}.{node.module}" if node.level else f"{node.module}" for node in found}
    return {(source[node], alias.name) for node in found for alias in node.names}


def star_names(tree: ast.Module) -> set[str]:
    """What `__all__` lists, however it is put together."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return {str(c.value) for c in ast.walk(node.value) if isinstance(c, ast.Constant)}
    return set()
