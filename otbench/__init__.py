"""otbench: a benchmark of neural optimal-transport solvers, fair by construction."""

from otbench import _links

__version__ = "0.1.0"

_links.install()
