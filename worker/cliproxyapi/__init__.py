"""Everything that knows the proxy: its API, its payloads, its credentials."""
