"""Benchmarks with a provider behind HTTP, which is what everybody has."""
