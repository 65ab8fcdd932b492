"""Tests of fm_platform.training."""
