"""Tests of fm_platform.store."""
