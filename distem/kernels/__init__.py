"""Arrays in, arrays out: the arithmetic, in plain NumPy and compiled."""
