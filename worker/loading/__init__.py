"""A batch into one transaction."""
