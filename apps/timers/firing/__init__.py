"""Firing timers: what a worker process does."""
