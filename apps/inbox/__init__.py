"""Inboxes: URLs that keep the calls they get, and show them."""
