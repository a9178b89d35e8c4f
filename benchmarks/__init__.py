"""Performance budgets, each measured against a named peer in the same run. `python -m benchmarks [NAME ...]`."""
