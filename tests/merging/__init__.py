"""Tests of fm_platform.merging."""
