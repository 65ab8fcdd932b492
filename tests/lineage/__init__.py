"""Tests of fm_platform.lineage."""
