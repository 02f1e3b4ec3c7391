"""Benchmarks: `python -m bench.api`, `.create`, `.scale`, `.host`. What they found: docs/performance.md."""
