"""The program that reads a PDF in a process of its own."""
