"""Sums of records: what is added, compared and rebuilt."""
