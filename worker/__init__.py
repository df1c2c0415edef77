"""Usage sync for CLIProxyAPI: payload → channel → PostgreSQL → rollups."""

from importlib.metadata import version

__version__ = version("usage-worker")
