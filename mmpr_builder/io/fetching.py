"""Images over HTTP, asked for in the name of a row: bounded in bytes and time, and never to
addresses of a private network unless the settings name them.

A host's address is looked up once and judged before anything is sent there; every redirect is
judged like the row's own URL.
"""

from __future__ import annotations

import base64
import functools
import ipaddress
import socket
import time
from collections.abc import Iterable
from contextvars import ContextVar
from typing import Any
from urllib.parse import quote, unquote, urljoin, urlsplit

import httpcore

from mmpr_builder.errors import RowError
from mmpr_builder.io.access import NOT_ALLOWED, Access, check_url

DEADLINE_S = 120.0
"""For one image, redirects included. 30 MB arrive over 2 Mbit/s."""
MAX_REDIRECTS = 5
_SILENCE_S = 30.0
_HEADERS = (
    (b"Accept", b"image/*,*/*;q=0.1"),
    (b"Accept-Encoding", b"identity"),
    (b"User-Agent", b"mmpr-builder"),
)
_AS_IT_IS = "/%?:@!$&'()*+,;=~"  # What a URL's path and query may hold unquoted.
# NAT64 (RFC 6052) and the old "IPv4-compatible" form (RFC 4291).
_AROUND_IPV4 = (ipaddress.IPv6Network("64:ff9b::/96"), ipaddress.IPv6Network("::/96"))
_GONE, _MOVED = frozenset({404, 410}), frozenset({301, 302, 303, 307, 308})

_HTTP_ERRORS = (
    *(httpcore.ProtocolError, httpcore.NetworkError, httpcore.TimeoutException),
    httpcore.UnsupportedProtocol,
)
_deadline: ContextVar[float] = ContextVar("deadline", default=float("inf"))


def fetch(url: str, access: Access, max_bytes: int, *, deadline_s: float = DEADLINE_S) -> bytes:
    """The body of a URL; no more is read once it is over `max_bytes`.

    Raises `RowError` "image_not_allowed", or "image_unreadable" at the deadline;
    `FileNotFoundError` where the server has no such image, and `OSError` for what may be otherwise
    next time.
    """
    before = _deadline.set(time.monotonic() + deadline_s)
    try:
        for _ in range(MAX_REDIRECTS + 1):
            check_url(url, access)
            found = _get(access.real(url), access.names(url), max_bytes)
            if isinstance(found, bytes):
                return found
            url = urljoin(url, found)
    except (TimeoutError, *_HTTP_ERRORS) as error:
        if time.monotonic() >= _deadline.get():
            raise RowError("image_unreadable", f"{url}: not there after {deadline_s:g} s") from None
        # The texts of these errors quote what a server sent.
        raise OSError(type(error).__name__) from None
    finally:
        _deadline.reset(before)
    raise OSError(f"over {MAX_REDIRECTS} redirects")


def _get(url: str, is_named: bool, max_bytes: int) -> bytes | str:
    """The body, or where it has moved."""
    parts = urlsplit(url)
    headers = list(_HEADERS)
    if parts.username is not None:
        login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers.append((b"Authorization", b"Basic " + base64.b64encode(login.encode())))
    target = httpcore.URL(
        scheme=parts.scheme.encode(),
        host=(parts.hostname or "").encode("idna"),
        port=parts.port,
        target=quote(
            f"{parts.path or '/'}{'?' * bool(parts.query)}{parts.query}", _AS_IT_IS
        ).encode(),
    )
    extensions = {"timeout": dict.fromkeys(("connect", "read", "write", "pool"), _SILENCE_S)}
    with _pool(is_named).stream("GET", target, headers=headers, extensions=extensions) as response:
        if response.status in _MOVED:
            moved = dict(response.headers)
            return next(
                (v.decode("latin-1") for k, v in moved.items() if k.lower() == b"location"), ""
            )
        if response.status in _GONE:
            raise FileNotFoundError(url)
        if response.status != 200:
            raise OSError(f"the server answered with status {response.status}")
        body = bytearray()
        for chunk in response.iter_stream():
            body += chunk
            if len(body) > max_bytes:
                break
        return bytes(body)


@functools.cache
def _pool(is_named: bool) -> httpcore.ConnectionPool:
    """Connections to named hosts and to others are kept apart: only the latter were judged."""
    return httpcore.ConnectionPool(
        max_connections=64, keepalive_expiry=15.0, network_backend=_Network(public=not is_named)
    )


class _Network(httpcore.NetworkBackend):
    """Connects to the very address that was judged, and lets no read outlast the deadline."""

    def __init__(self, *, public: bool) -> None:
        self._public = public
        self._sockets = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        addresses = list(dict.fromkeys(str(info[4][0]) for info in found))
        if self._public:
            for address in addresses:
                if not is_public(address):
                    raise RowError(
                        NOT_ALLOWED,
                        f"{host} is {address}, an address of a private network: name the beginning"
                        " of the URL in the source's `allow` if it is meant",
                    )
        for number, address in enumerate(addresses, 1):
            try:
                stream = self._sockets.connect_tcp(
                    address, port, _left(timeout), local_address, socket_options
                )
                return _Stream(stream)
            except httpcore.ConnectError:
                if number == len(addresses):
                    raise
        raise OSError(f"{host} has no address")


class _Stream(httpcore.NetworkStream):
    def __init__(self, stream: httpcore.NetworkStream) -> None:
        self._stream = stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _left(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, _left(timeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: Any,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        return _Stream(self._stream.start_tls(ssl_context, server_hostname, _left(timeout)))

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def _left(timeout: float | None) -> float:
    left = min(timeout or _SILENCE_S, _deadline.get() - time.monotonic())
    if left <= 0:
        raise TimeoutError
    return left


def is_public(address: str) -> bool:
    """Whether an IP address is one of the open internet; IPv4 inside IPv6 counts as itself."""
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        inner = found.ipv4_mapped or found.sixtofour or (found.teredo or (None, None))[1]
        if any(found in network for network in _AROUND_IPV4):
            inner = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
    return found.is_global and not found.is_multicast
