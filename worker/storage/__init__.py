"""Statements on records, names, prices and channels."""
