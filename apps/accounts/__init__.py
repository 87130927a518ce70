"""Accounts, and the API keys by which requests belong to one."""
