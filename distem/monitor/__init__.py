"""Observers of events: the log, the terminal."""
