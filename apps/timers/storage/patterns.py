"""Patterns that Postgres compares texts with."""


def like(beginning: str) -> str:
    """Return a pattern for texts that begin so."""
    for sign in "\\%_":
        beginning = beginning.replace(sign, f"\\{sign}")
    return f"{beginning}%"


def port_pattern(port: int | None) -> str | None:
    """Return a pattern for URLs with a port, in any case."""
    if port is None:
        return None
    host = r"(\[[^]]*]|[^][/?#:]*)"
    ways = (
        f"{scheme}://{host}(:0*{port}){'?' if port == default else ''}"
        for scheme, default in (("http", 80), ("https", 443))
    )
    return f"^({'|'.join(ways)})([/?#]|$)"
