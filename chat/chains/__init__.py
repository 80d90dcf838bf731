"""The built-in chains, one file each."""
