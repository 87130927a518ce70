"""Migrations: additive only."""
