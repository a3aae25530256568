"""Building blocks of solvers: networks and potentials."""
