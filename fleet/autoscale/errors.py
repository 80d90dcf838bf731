"""The errors of the autoscaler; commands show their text as it is."""


class AutoscaleError(Exception):
    """Something that the autoscaler needs is invalid or unavailable; the text is a sentence."""


class PolicyError(AutoscaleError):
    """A policy file says something that it may not; the text names the place."""


class ActuatorError(AutoscaleError):
    """A fleet could not be counted, or be given another size. A later try may succeed."""


class MeasureError(AutoscaleError):
    """One source of measurements gives nothing now; the others still count."""


class TraceError(AutoscaleError):
    """A recording of traffic cannot be read; the text names the line."""
