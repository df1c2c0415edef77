"""`worker run`: a schedule, probes and metrics."""
