"""The errors of the autoscaler; commands show their text as it is."""


class AutoscaleError(Exception):
    """Something that the autoscaler needs is invalid or unavailable; the text is a sentence."""


class PolicyError(AutoscaleError):
    """A policy file is invalid; the text names the position."""


class ActuatorError(AutoscaleError):
    """A fleet could not be counted, or could not be resized. A retry may succeed."""


class MeasureError(AutoscaleError):
    """One source of measurements fails now; the others still count."""


class TraceError(AutoscaleError):
    """A recording of traffic cannot be read; the text names the line."""
