"""Fixtures that tests of several floors share."""
