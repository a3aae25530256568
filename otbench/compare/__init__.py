"""What is better or worse than before, beyond noise."""
