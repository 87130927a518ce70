"""The HTTP client that calls webhooks: a transport adapter of `requests`.

`adapter.py` is one call from top to bottom. It uses a connection
(`connection.py`), which was dialled (`dialing.py`) or waited for another call
(`idle.py`), and reads an answer (`answer.py`).
"""
