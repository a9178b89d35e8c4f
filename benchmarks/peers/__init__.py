"""What the benchmarks compare with: the same work done in the usual way, each in a process of its own."""
