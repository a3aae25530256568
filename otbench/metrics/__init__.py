"""Metrics: pure functions from points and truth to numbers."""
