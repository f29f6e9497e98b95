"""The EM engine: loop, stop rules, acceleration, selection."""
