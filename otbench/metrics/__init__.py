"""Metrics: from points and truth, or from a map that can be differentiated, to numbers."""
