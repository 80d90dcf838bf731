"""Benchmarks: how fast and how small Headrace is, beside others on the same machine."""
