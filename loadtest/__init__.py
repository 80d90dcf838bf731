"""Benchmarks: how fast and how small Headrace is, compared with others on the same machine."""
