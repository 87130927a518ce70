"""The timer endpoints, and what they take and give."""
