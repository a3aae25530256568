"""Figures: curves and comparisons from records, pictures that runs left, and how they look."""
