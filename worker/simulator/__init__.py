"""A proxy on loopback with known totals, for the demo and the tests."""
