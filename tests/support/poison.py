"""Rows that the API would never have stored, and what they end with."""

#: SQL that spoils a waiting timer's row; its `error` then says what is wrong.
#: All but `url` are seen when the row is claimed.
POISONS = {
    "counter": ("attempts = 2147483647", "attempts"),
    "claims": ("claims = 2147483647", "integer out of range"),
    "policy": ("retry = '{\"x\": 1}'", "retry"),
    "policy of texts": (
        "retry = '{\"max_attempts\": \"3\", \"min_delay\": 1,"
        " \"max_delay\": 2, \"unanswered\": false}'",
        "retry",
    ),
    "policy of a long number": (
        "retry = ('{\"max_attempts\": 1' || repeat('0', 5000) || '}')::jsonb",
        "",
    ),
    "list of headers": ("headers = '[1]'", "headers"),
    "header that is a number": ("headers = '{\"a\": 1}'", "headers"),
    "deep headers": (
        "headers = (repeat('[', 3000) || repeat(']', 3000))::jsonb", ""
    ),
    "url": ("url = 'nonsense'", "url"),
    "method": ("method = E'GET /other HTTP/1.1\\r\\nx:'", "method"),
    "no end": ("due_at = 'infinity'", "timestamp"),
    "before Christ": ("due_at = '0044-03-15 12:00 BC'", "timestamp"),
    "no beginning": ("next_at = '-infinity'", "timestamp"),
    "replayed for ever": (
        "replayed_at = 'infinity', max_lateness = '1 s'", "timestamp"
    ),
    "long lateness": ("max_lateness = '1000000 years'", ""),
}
