"""Everything that an object leads to: how the test kits see who holds on to what."""

from __future__ import annotations

import gc
from types import ModuleType


def reachable(root: object) -> list[object]:
    """Return everything that `root` refers to, at any depth, stopping at modules, types and globals of functions."""
    seen: dict[int, object] = {}
    stack = [root]
    while stack:
        item = stack.pop()
        module_globals = isinstance(item, dict) and "__builtins__" in item
        if id(item) not in seen and not isinstance(item, ModuleType | type) and not module_globals:
            seen[id(item)] = item
            stack += gc.get_referents(item)
    return list(seen.values())
