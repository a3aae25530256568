"""otbench: a benchmark of neural optimal-transport solvers, fair by construction.

    import otbench

    transport = otbench.fit(x, y, solver="fixedpoint")   # maps between two samples
    t, s = transport.forward(x), transport.backward(y)
    transport.save("map.otmap")                          # and otbench.load
    otbench.score(transport, x_test, y_test)             # what held-out samples say of it
    otbench.run(solvers="ncf,fixedpoint", task="gaussian", dims=[2, 8])

Nothing heavy is imported before it is used.
"""

from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from otbench import _links
from otbench.errors import (
    DataError,
    DivergedError,
    OtbenchError,
    OtbenchWarning,
    PluginError,
    StoreError,
    UsageError,
)

if TYPE_CHECKING:
    from otbench.api.fitting import fit
    from otbench.api.maps import Transport, load, score
    from otbench.api.running import read, run, solvers, tasks

__version__ = "0.1.0"

__all__ = [
    "DataError",
    "DivergedError",
    "OtbenchError",
    "OtbenchWarning",
    "PluginError",
    "StoreError",
    "Transport",
    "UsageError",
    "__version__",
    "fit",
    "load",
    "read",
    "run",
    "score",
    "solvers",
    "tasks",
]

_HOMES = {
    "Transport": "otbench.api.maps",
    "fit": "otbench.api.fitting",
    "load": "otbench.api.maps",
    "read": "otbench.api.running",
    "run": "otbench.api.running",
    "score": "otbench.api.maps",
    "tasks": "otbench.api.running",
}
"""Where public names are, which are looked up when they are first used."""


if not TYPE_CHECKING:  # a checker knows all names, and would take any other for granted

    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module 'otbench' has no attribute '{name}'")
        found = globals()[name] = getattr(import_module(_HOMES[name]), name)
        return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Solvers(ModuleType):
    """The folder of solvers, which is also the function that lists them."""

    def __call__(self, name: str | None = None, **options: Any) -> Any:
        return import_module("otbench.api.running").solvers(name, **options)


_links.install()
_folder = import_module("otbench.solvers")  # a folder: nothing in it is imported
_folder.__class__ = _Solvers
_folder.__doc__ = "List all solvers and baselines; or, of one `name`, all its parameters."
