"""Side by side with peers and with itself: `python -m benchmarks` writes RESULTS.md."""
