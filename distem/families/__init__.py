"""Kinds of models as a run knows them: how each starts, what of it is written, and how it is read back."""
