"""Runs the service and its servers on one machine, in the foreground."""
