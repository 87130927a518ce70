"""Timers in Postgres: their statements, and what goes in and out."""
