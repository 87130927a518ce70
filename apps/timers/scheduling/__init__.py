"""Bringing each timer to a worker as its time comes near."""
