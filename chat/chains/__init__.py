"""Chains: configurations, how they are built, and the built-in ones, one file each."""
