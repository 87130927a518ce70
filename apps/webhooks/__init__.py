"""Outbound HTTP: check a webhook's URL and call it, once."""
