"""From storage to blocks of rows, and from answers to storage."""
