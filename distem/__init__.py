"""Mixtures and other EM models fitted to more data than fits in memory."""
