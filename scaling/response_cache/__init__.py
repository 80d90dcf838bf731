"""Answers kept for requests that come again: what is kept, where, and how it is found."""
