"""Saying in sentences how a timer stands, from what rows tell of it."""
