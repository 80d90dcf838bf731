"""Fixtures for every test; `stack` comes from tests/stack_plugin.py."""
