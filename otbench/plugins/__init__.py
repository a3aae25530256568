"""Solvers, baselines and tasks: found by name, and checked for their authors."""
