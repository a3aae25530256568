"""Reports: from records to tables."""
