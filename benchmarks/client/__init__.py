"""The point engine beside what else reads the same store: `python -m benchmarks.client`."""
