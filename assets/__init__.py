"""Dagster only: thin assets over the library. No algorithm lives here."""
