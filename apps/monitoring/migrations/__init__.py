"""The history of the table of processes."""
