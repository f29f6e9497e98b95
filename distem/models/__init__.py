"""The statistics: one family a file."""
