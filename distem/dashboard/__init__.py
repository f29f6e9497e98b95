"""A run on its cluster's own dashboard and in its metrics; nothing here is needed for a run to go on."""
