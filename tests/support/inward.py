"""Ways to lead a call inwards, as collected from attacks on other guards.

`PORT` in a URL stands for a port that somebody listens on.
"""

import contextlib
import socket
import sys
from collections.abc import Iterator
from typing import Any

from tests.support.loopback import has_ipv6

PORTS = 4


def _words(text: str) -> list[str]:
    return text.split()


NOT_PUBLIC = _words("""
0.0.0.0 0.0.0.1 0.255.255.255 10.0.0.0 10.0.0.1 10.255.255.255 100.64.0.0
100.64.0.1 100.127.255.255 127.0.0.0 127.0.0.1 127.255.255.255 169.254.0.0
169.254.1.1 169.254.255.255 172.16.0.0 172.16.0.1 172.17.0.1 172.31.255.255
192.0.0.0 192.0.0.1 192.0.0.9 192.0.0.170 192.0.0.255 192.0.2.1 192.88.99.1
192.168.0.0 192.168.1.1 192.168.255.255 198.18.0.0 198.18.0.1 198.19.255.255
198.51.100.1 203.0.113.1 224.0.0.0 224.0.0.1 239.255.255.255 240.0.0.0
240.0.0.1 255.255.255.254 255.255.255.255 127.0.0.2 127.1.2.3 127.255.255.254
0.1.2.3 169.254.0.1 192.168.0.1 239.255.255.250
:: ::1 ::2 ::1.2.3.4 ::127.0.0.1 ::8.8.8.8 ::ffff:0.0.0.0 ::ffff:127.0.0.1
::ffff:7f00:1 ::ffff:10.0.0.1 ::ffff:169.254.169.254 ::ffff:192.168.0.1
::ffff:224.0.0.1 ::ffff:0:8.8.8.8 ::ffff:0:127.0.0.1 64:ff9b::127.0.0.1
64:ff9b::10.0.0.1 64:ff9b::a9fe:a9fe 64:ff9b:1::8.8.8.8 64:ff9b:1::1
64:ff9b:0:1::1 100::1 100:0:0:1::1 2001::1 2001:0:808:808::f7f7:f7f7
2001:0:7f00:1::80ff:fffe 2001:1::1 2001:2::1 2001:3::1 2001:10::1 2001:20::1
2001:1ff:ffff::1 2001:db8::1 2001:db8:ffff::1 2002::1 2002:7f00:1::1
2002:a00:1::1 2002:808:808::1 2002:a9fe:a9fe::1 3fff::1 3fff:fff::1 4000::1
5f00::1 8000::1 fc00::1 fd00::1 fd12:3456:789a::1 fdff:ffff::1 fe00::1 fe80::1
fe80::1%1 fe80::1%eth0 2606:4700::1%1 febf::1 fec0::1 ff00::1 ff02::1 ff05::2
ff0e::1 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 0:0:0:0:0:0:0:1 0000::0001
::7f00:1 ::10.0.0.1 0:0:0:0:0:FFFF:127.0.0.1 ::ffff:a9fe:a9fe 64:ff9b::7f00:1
64:ff9b::169.254.169.254 64:ff9b::192.168.0.1 64:ff9b:1::127.0.0.1
2002:7f00:1:: 2002:c0a8:1::1 2001:0:7f00:1:: 2001:0:808:808::80ff:fffe
2606:4700::5efe:127.0.0.1 2606:4700::200:5efe:10.0.0.1 fe80::5efe:127.0.0.1
ff01::1
""")

METADATA = _words("""
169.254.169.254 169.254.170.2 169.254.170.23 169.254.0.23 169.254.42.42
100.100.100.200 168.63.129.16 192.0.0.192 fd00:ec2::254 fd00:ec2::23
fd20:ce::254 fd00:42::42 fd00:c1::a9fe:a9fe fe80::a9fe:a9fe
""")

_WIDE_LITERALS = """
１２７.０.０.１ 127。0。0。1 127．0．0．1 127｡0｡0｡1
①②⑦.⓪.⓪.① 𝟏𝟐𝟕.𝟎.𝟎.𝟏 127.0.0.\u00ad1
⑯⑨.②⑤④.⑯⑨.②⑤④ １６９．２５４．１６９．２５４
"""
_NAMES = """
localhost LOCALHOST LocalHost localhost. a.localhost a.b.localhost.
ⓁⓄⒸⒶⓁⒽⓄⓈⓉ ｌｏｃａｌｈｏｓｔ local\u00adhost localhost。 localhost\u00ad
localhost.localdomain localhost6.localdomain6 ip6-localhost ip6-loopback
receiver receiver. my_service web1 broadcasthost kubernetes ai com. metadata
instance-data metadata.google.internal METADATA.Google.Internal
metadata.google.internal. metadata.goog metadata。goog.
instance-data.ec2.internal metadata.tencentyun.com metadata.packet.net
metadata.platformequinix.com api.metadata.cloud.ibm.com
host.docker.internal ip-10-0-0-1.eu-west-1.compute.internal a.internal.
printer.local vault.service.local kubernetes.default.svc
web.default.svc.cluster.local router.home.arpa home.arpa router.lan nas.home
dc.corp mx.mail wiki.intranet db.private a.localdomain a.test a.example
a.invalid a.onion a.alt
"""
_SPELLINGS = """
127.1 127.0.1 127.0.0.1. 127.0.0.1.. 2130706433 2130706433. 017700000001
0x7f000001 0X7F000001 0x7f.0x0.0x0.0x1 0x7f.1 0x7f.0.0.1 0177.0.0.1
0177.0.0.01 00000177.0.0.1 127.0.0.01 127.0.0.0x1 127.0.0.1.1 127.0.0.256
4294967295 4294967296 18446744073709551617 0 0. 0x 0x0 00 1.1 10.1 3232235521
0xa9fea9fe 2852039166 0251.0376.0251.0376 0xa9.0xfe.0xa9.0xfe 169.254.43518
0x7f.example.1 １.１ ２１３０７０６４３３ ０ｘ７ｆ．１ 0177。1 ⒈⒉⒊⒋
127.0.0.1%00 127.0.0.1%2eexample.com %31%32%37.0.0.1 127%2e0%2e0%2e1
localhost%00.example.com localhost%2f 127.0.0.1; 127.0.0.1,example.com
127.0.0.1&example.com *.localhost -localhost localhost- .localhost
localhost.. ﹒localhost 127..0.0.1 $(localhost) {127.0.0.1} <127.0.0.1>
[::1 ::1] [::1].example.com [[::1]] [::1%25lo] [::1%lo] [fe80::1%25eth0]
[127.0.0.1] [localhost] [v1.127.0.0.1] [::ffff:127.1] [::0x7f000001] []
[::ffff:0177.0.0.1] [::１]
user@127.0.0.1 user:password@127.0.0.1 example.com@127.0.0.1
example.com:80@127.0.0.1 @127.0.0.1 127.0.0.1@example.com
example.com%40@127.0.0.1 example.com@@127.0.0.1 example.com:@localhost
example.com\\@127.0.0.1 127.0.0.1\\@example.com example.com\\127.0.0.1
\\127.0.0.1 127.0.0.1\\.example.com example.com\t@127.0.0.1
127.0.0.1\t.example.com 127.0.0.1\r 127.0.0.1\0 local\0host
127.0.0.1\x7f 127.0.0.1\u2028 127.0.0.1\ud800 \u202e1.0.0.721 127.0.0.1:
"""


def _hosts(text: str) -> list[str]:
    return [host for host in text.replace("\n", " ").split(" ") if host]


ADDRESSES = [*NOT_PUBLIC, *METADATA]
"""A resolver may answer them."""

HOSTS = [
    *(f"[{each}]" if ":" in each else each
      for each in ADDRESSES if "%" not in each),
    *_hosts(_WIDE_LITERALS), *_hosts(_NAMES),
]  # fmt: skip
"""They are well formed, and lead inwards."""

URLS = [
    *(f"http://{host}:PORT/" for host in HOSTS),
    "http://127.0.0.1/", "https://127.0.0.1:PORT/", "HTTP://127.0.0.1:PORT",
    "http://localhost", "http://127.0.0.1:PORT#@example.com/",
    "http://127.0.0.1:PORT?@example.com/", "http://[::1]:PORT#example.com",
    "http://127.0.0.1:PORT//example.com/", "http://localhost/@example.com",
]  # fmt: skip
"""The guard refuses them; only it does."""

SPELLINGS = [
    *(f"http://{host}:PORT/" for host in _hosts(_SPELLINGS)),
    "//127.0.0.1:PORT/", "///127.0.0.1:PORT/", "http:127.0.0.1:PORT",
    "http:/127.0.0.1:PORT/", "http:///127.0.0.1:PORT/", "127.0.0.1:PORT",
    "http:\\\\127.0.0.1:PORT\\", "\\\\127.0.0.1\\", "http://\\\\127.0.0.1/",
    " http://127.0.0.1:PORT/", "http://127.0.0.1:PORT/ HTTP/1.1",
    "http://127.0.0.1:PORT:80/", "http://example.com:PORT@127.0.0.1:PORT/",
    "http://127.0.0.1:PORT\r\nHost: a/", "ftp://127.0.0.1:PORT/",
    "gopher://127.0.0.1:PORT/_x", "file:///etc/passwd", "dict://127.0.0.1/",
    "data:text/plain,x", "unix:///run/docker.sock", "jar:http://127.0.0.1!/",
    "url:http://127.0.0.1/", "http+unix://%2frun%2fdocker.sock/",
    "HTTP\u017f://127.0.0.1:PORT/",
]  # fmt: skip
"""The grammar refuses them, whatever may be called."""


class Listeners:
    """Somebody who listens on this machine, and what tried to get there.

    `connected` has each address that this process has tried to connect to
    or to send to, wherever that is; it looks up no name either.
    """

    def __init__(self) -> None:
        self.connected: list[Any] = []
        self._sockets = [
            listener
            for _ in range(PORTS)
            for listener in _on_both_loopbacks()
        ]
        self.ports = sorted({sock.getsockname()[1] for sock in self._sockets})

    def note(self, event: str, arguments: Any) -> None:
        """Be an audit hook."""
        if event in {"socket.connect", "socket.sendto", "socket.sendmsg"}:
            self.connected.append(arguments[1])
        elif event == "socket.getaddrinfo":
            self.connected.append(arguments[0])

    def accepted(self) -> list[Any]:
        """Return who has connected so far, and is kept waiting."""
        peers = []
        for sock in self._sockets:
            with contextlib.suppress(BlockingIOError):
                peers.append(sock.accept()[1])
        return peers

    def close(self) -> None:
        """Listen no more."""
        for sock in self._sockets:
            sock.close()


def _on_both_loopbacks() -> Iterator[socket.socket]:
    """Listen on one port of both, so that no spelling leads elsewhere.

    A machine without ::1 has one of them, and no way to the other.
    """
    first = socket.create_server(("127.0.0.1", 0))
    first.setblocking(False)
    yield first
    if has_ipv6():
        second = socket.create_server(
            ("::1", first.getsockname()[1]), family=socket.AF_INET6
        )
        second.setblocking(False)
        yield second


@contextlib.contextmanager
def listeners() -> Iterator[Listeners]:
    """Listen, and watch all that this process does with sockets."""
    watching = [Listeners()]

    def hook(event: str, arguments: Any) -> None:
        # There is no way to remove a hook: leave it with nothing to do.
        for each in watching:
            each.note(event, arguments)

    sys.addaudithook(hook)
    try:
        yield watching[0]
    finally:
        watching.pop().close()
