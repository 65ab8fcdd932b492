"""Connectors that bring raw rows in, one day at a time, as Arrow record batches."""

from fm_platform.sources.connectors import CONNECTORS, Connector, connect

__all__ = ["CONNECTORS", "Connector", "connect"]
