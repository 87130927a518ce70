"""The webhook client: one call, to checked addresses, by one deadline.

It follows no redirect, keeps no cookie, and repeats no request that may have
been received. It takes no proxies and no credentials from the environment.
"""

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from django.conf import settings
from requests import PreparedRequest

from apps.webhooks.guard import Guard, Network
from apps.webhooks.http.adapter import WebhookAdapter
from apps.webhooks.http.connection import tls_context
from apps.webhooks.http.dialing import Dialer
from apps.webhooks.http.exchange import Abort, Exchange, Failed
from apps.webhooks.request import WITH_BODY
from apps.webhooks.resolver import Lookup, Resolver, system_lookup
from apps.webhooks.results import Result, printable
from apps.webhooks.target import Target, parse_target

__all__ = ["Abort", "Policy", "WebhookClient", "from_settings"]


def no_hook(*_: object) -> None:
    """Do nothing: the hook of a call that needs none."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What calls may reach, and how.

    allowed_networks  may be called although not public (see Guard)
    proxy             an egress proxy, http://host:port, or None. It resolves
                      the names, so the guard judges the URLs' hosts only.
    ca_file           PEM certificates to trust besides certifi's roots
    """

    allowed_networks: tuple[Network, ...] = ()
    proxy: str | None = None
    ca_file: str | None = None


def from_settings() -> Policy:
    """Return the policy that Django's settings and SSL_CERT_FILE describe."""
    return Policy(
        allowed_networks=tuple(settings.WEBHOOK_ALLOWED_NETWORKS),
        proxy=settings.WEBHOOK_PROXY,
        ca_file=os.environ.get("SSL_CERT_FILE") or None,
    )


class WebhookClient(WebhookAdapter):
    """Call webhooks, from many threads at once; one for each process."""

    def __init__(self, policy: Policy, lookup: Lookup = system_lookup) -> None:
        """Load the certificates to trust.

        Raises OSError if ca_file can't be loaded, InvalidURL (a ValueError)
        if the proxy's URL is invalid.
        """
        proxy = None if policy.proxy is None else parse_target(policy.proxy)
        guard = Guard(policy.allowed_networks)
        dialer = Dialer(guard, Resolver(lookup), proxy)
        super().__init__(dialer, tls_context(policy.ca_file))

    def call(
        self,
        target: Target,
        *,
        headers: Mapping[str, str],
        body: bytes | None,
        method: str = "POST",
        deadline: float,
        before_dial: Callable[[str], None] = no_hook,
        before_send: Callable[[], None] = no_hook,
        on_sent: Callable[[], None] = no_hook,
        on_answer: Callable[[int], None] = no_hook,
    ) -> Result:
        """Send one request and return what came of it.

        headers      Host, Content-Length, Transfer-Encoding, Connection and
                     Accept-Encoding are the client's own; ValueError for
                     a name or value that can't be sent
        body         where one is expected and there is none, a
                     Content-Length of 0 says so (RFC 9110, section 8.6)
        deadline     a value of time.monotonic(), for all of the exchange. If
                     the head of the answer came in time, but the body did
                     not, then the status is the answer.
        before_dial  called with the address to connect to, the first one if
                     there are several. Not called with a proxy: only the
                     proxy knows the address.
        before_send  called when connected, right before the first byte, and
                     once more if the connection had to be replaced
        on_sent      called once, when the last byte has left; must not raise
        on_answer    called with the status if the body is not complete 20 ms
                     after the head; must not raise

        `Abort` from the first two hooks ends the call unsent, as `aborted`.
        Failures of network, resolver or receiver do not raise. Exceptions of
        hooks other than `Abort` do. A request is sent again, once, only if
        the receiver's TCP had not one byte of it: it had crossed with the
        end of a kept-alive connection.
        """
        started = time.monotonic()
        request = _prepared(target, method, headers, body)
        exchange = Exchange(
            target, deadline, before_dial, before_send, on_sent, on_answer
        )
        try:
            response = self.send(request, exchange=exchange)
        except Failed as error:
            return Result(
                status_code=None,
                failure=error.kind,
                detail=printable(str(error)),
                sent=exchange.sent,
                body=b"",
                duration=time.monotonic() - started,
                hung=not isinstance(error, Abort) and exchange.is_over(),
            )
        return Result(
            status_code=response.status_code,
            failure=None,
            detail="",
            sent=exchange.sent,
            body=response.raw.read(),
            duration=time.monotonic() - started,
            retry_after=response.headers.get("retry-after"),
        )


def _prepared(
    target: Target, method: str, headers: Mapping[str, str], body: bytes | None
) -> PreparedRequest:
    """Return a request for the adapter; `requests` changes nothing in it."""
    own = {"Host": target.host_header, "Accept-Encoding": "identity"}
    if body or method in WITH_BODY:
        own["Content-Length"] = str(len(body or b""))
    request = PreparedRequest()
    request.method = method
    request.url = ""  # the adapter has the target
    request.headers = {**own, **headers}  # type: ignore[assignment]
    request.body = body or None
    return request
