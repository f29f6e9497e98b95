"""Texts for people: what came from data must not move the cursor, colour the screen or hide a line."""

from __future__ import annotations

import re

_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    """Return a text with control characters written out, new lines and tabs aside."""
    return _CONTROL.sub(lambda match: ascii(match.group())[1:-1], text)
