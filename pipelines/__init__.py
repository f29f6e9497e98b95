"""Ready-made jobs: one a file, written with distem's public names only."""
