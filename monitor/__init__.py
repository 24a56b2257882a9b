"""vad-monitor: watches many surveillance cameras at once and tells people when something is wrong."""

__version__ = "0.1.0"
