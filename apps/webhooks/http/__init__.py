"""The HTTP client that calls webhooks: a transport adapter of `requests`.

`adapter.py` is one call from top to bottom. It uses a connection
(`connection.py`), which is new (`dialing.py`) or left from an earlier call
(`idle.py`), and reads an answer (`answer.py`).
"""
