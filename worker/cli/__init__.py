"""Arguments in, tables and exit codes out."""
