"""Which channel a record belongs to (pure)."""
