"""Plugin folders for a checkout without symbolic links.

`otbench/solvers` and its like are tracked links to folders at the top of the checkout. Where the file system or a
downloaded archive does not keep links they arrive as small text files, and `otbench.solvers` would not import. Then,
and only then, a finder on `sys.meta_path` says where the folders are. An installed package holds real folders and
never comes here.
"""

from __future__ import annotations

import importlib.machinery
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

TARGETS = {
    "solvers": "solvers",
    "baselines": "baselines",
    "datasets": "datasets",
    "published": "results/published",
}
"""What each link inside the package points to, from the root of the checkout."""
_PACKAGE = Path(__file__).parent
_ROOT = _PACKAGE.parent


def checkout_root() -> Path | None:
    """Return the top of the checkout that this package is run from; None where it is installed."""
    return _ROOT if (_ROOT / "bench.py").is_file() else None


def folder(name: str) -> Path:
    """Return the folder behind `otbench.<name>`, be it linked, installed or at the top of the checkout."""
    inside = _PACKAGE / name
    return inside if inside.is_dir() else _ROOT / TARGETS[name]


class _Finder:
    """Finds exactly the packages of `TARGETS`; files in them are found in the ordinary way."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        package, _, leaf = name.partition(".")
        if package != __package__ or leaf not in TARGETS:
            return None
        return importlib.machinery.PathFinder.find_spec(name, [str((_ROOT / TARGETS[leaf]).parent)])


def install() -> None:
    """Make the plugin folders importable, in a checkout that lost its links."""
    if not (_PACKAGE / "solvers").is_dir() and checkout_root() is not None:
        # in front: an editable install of another checkout would answer for these names, and mean its own folders
        sys.meta_path.insert(0, _Finder)
