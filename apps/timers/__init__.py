"""Timers: storing them, waking them in time, firing each one once."""
