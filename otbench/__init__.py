"""otbench: a benchmark of neural optimal-transport solvers, fair by construction."""

__version__ = "0.1.0"
