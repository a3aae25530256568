"""Source code as what it does: a digest that layout, comments and docstrings leave alone, and the imports in it.

The digest is the same on Python 3.11 to 3.14. `ast.dump` is not: its text follows the fields that nodes have in each
version. So the tree is written down here: node names, fields that hold something, constants by type and value. Only
the standard library is imported, so that any interpreter can check the digest.

Left out of the tree: strings that stand alone as a statement, the body of `if TYPE_CHECKING:`, and `__version__ = ...`,
since a release that changes no code must not rename every run.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
from functools import cache
from importlib.util import resolve_name
from itertools import groupby

_UNREADABLE = (SyntaxError, ValueError, RecursionError, MemoryError)
"""All that the parser raises, and what code raises that is nested too deep to be walked through."""


def digest(content: bytes) -> str:
    """Return the first 16 hexadecimal digits of the SHA-256 of `content`."""
    return hashlib.sha256(content).hexdigest()[:16]


@cache
def code_digest(source: bytes) -> str:
    """Return the digest of what the module in `source` does; of its bytes, where Python cannot read them."""
    try:
        return digest(_text(_parsed(source)).encode())
    except _UNREADABLE:
        return digest(source)


@cache
def imported(source: bytes, name: str, *, package: bool) -> frozenset[str]:
    """Return the full names of all that a module imports, wherever in it: modules, and what is taken from them.

    Args:
        source: the module's file.
        name: its full name.
        package: whether it is the `__init__` of a package, which relative imports start from.
    """
    parent = name if package else name.rpartition(".")[0]
    found: set[str] = set()
    with contextlib.suppress(*_UNREADABLE):
        for node in ast.walk(_parsed(source)):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                base = node.module or ""
                with contextlib.suppress(ImportError):  # beyond the top: Python refuses it, too
                    base = resolve_name("." * node.level + base, parent) if node.level else base
                    found |= {base, *(f"{base}.{alias.name}" for alias in node.names)}
    return frozenset(found)


@cache
def _parsed(source: bytes) -> ast.AST:
    tree: ast.AST = _WhatRuns().visit(ast.parse(source))
    return tree


class _WhatRuns(ast.NodeTransformer):
    """Takes out of a tree what has no effect on what the code computes."""

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        alone = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        return None if alone else self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> ast.AST | None:
        target = node.targets[0]
        return None if isinstance(target, ast.Name) and target.id == "__version__" else self.generic_visit(node)

    def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt]:
        self.generic_visit(node)
        test = node.test
        name = test.id if isinstance(test, ast.Name) else test.attr if isinstance(test, ast.Attribute) else ""
        return node.orelse if name == "TYPE_CHECKING" else node


def _text(node: object) -> str:
    """Return a tree, a list of trees or a plain value as text; the same text, the same code."""
    match node:
        case ast.Constant(value=value):
            return f"{type(value).__name__}:{_constant(value)}"
        case ast.JoinedStr(values=values):
            return f"JoinedStr{_pieces(values)}"
        case ast.AST():
            # a field that a later Python adds is empty in code that an earlier one can read; `kind` is the u of u""
            fields = sorted((name, value) for name, value in ast.iter_fields(node) if name not in ("ctx", "kind"))
            inside = ",".join(f"{name}={_text(value)}" for name, value in fields if value is not None and value != [])
            return f"{type(node).__name__}({inside})"
        case list():
            return f"[{','.join(map(_text, node))}]"
        case _:
            return ascii(node)  # `repr` knows which letters are printable, and that differs


def _constant(value: object) -> str:
    match value:
        case float():
            return value.hex()
        case complex():
            return f"{value.real.hex()},{value.imag.hex()}"
        case int():
            return hex(value)  # as decimals, Python refuses to write very long ones
        case _:
            return ascii(value)


def _pieces(values: list[ast.expr]) -> str:
    """Return the pieces of an f-string: how its plain text is cut, and whether empty cuts stand there, differs."""
    parts = []
    for plain, group in groupby(values, key=lambda value: isinstance(value, ast.Constant)):
        if plain:
            parts.append(ascii("".join(str(piece.value) for piece in group if isinstance(piece, ast.Constant))))
        else:
            parts += map(_text, group)
    return f"[{','.join(part for part in parts if part != ascii(''))}]"
