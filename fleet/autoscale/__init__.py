"""Grow and shrink web nodes and job workers by policies.

`measure` observes, `decision` decides, an actuator acts, and `loop` goes round. What a policy may
say is in `policies`, what came of it in `history`; `simulation` tries policies on recorded traffic.
"""
