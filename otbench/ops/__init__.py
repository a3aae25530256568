"""Numerical kernels: batched, allocation-light, free of hidden device synchronisation."""
