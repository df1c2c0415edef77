"""Tokens and the list of measures (pure)."""
