"""Django's admin, for operators: all accounts, keys, timers and the log."""
