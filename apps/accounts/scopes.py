"""What keys and users may do."""

#: What a key may do.
SCOPES = {
    "read": "look at timers and list them",
    "write": "set, change, fire, cancel and replay timers",
    "admin": "manage the account's keys and signing secrets, erase timers,"
    " read the log",
    "metrics": "read the service's metrics",
}
