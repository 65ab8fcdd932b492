"""Side-by-side measurements: `python -m benchmarks.<area> [--quick] [--json]`."""
