"""Reads on replicas that never miss their caller's own writes."""
