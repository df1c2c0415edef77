"""The story of one pass: fetch, keep, load."""
