"""The history of the timer table."""
