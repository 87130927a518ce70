"""The history of the tables of inboxes."""
