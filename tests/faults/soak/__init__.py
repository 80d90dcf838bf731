"""Load and faults for as long as one likes: `make soak`."""
