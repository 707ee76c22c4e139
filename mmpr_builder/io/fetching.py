"""Fetches the images of rows over HTTP: bounded in bytes and time, and from addresses of a private
network only where the settings name them. Every redirect is checked like the row's own URL."""

from __future__ import annotations

import base64
import functools
import ipaddress
import socket
import time
from collections import Counter
from collections.abc import Iterable
from contextvars import ContextVar
from dataclasses import replace
from typing import Any
from urllib.parse import quote, unquote, urljoin, urlsplit

import httpcore

from mmpr_builder.errors import RowError
from mmpr_builder.io.access import NOT_ALLOWED, Access, check_url, place_of

DEADLINE_S = 60.0  # For one image, redirects included. 30 MB arrive over 4 Mbit/s.
MAX_REDIRECTS = 5
MAX_LATE = 3  # Images in a row that a host may deliver late; its later ones fail at once.
_SILENCE_S = 20.0
_HEADERS = (
    (b"Accept", b"image/*,*/*;q=0.1"),
    (b"Accept-Encoding", b"identity"),
    (b"User-Agent", b"mmpr-builder"),
)
_AS_IT_IS = "/%?:@!$&'()*+,;=~"  # What a URL's path and query may hold unquoted.
_GLOBAL = ipaddress.IPv6Network("2000::/3")
_DOCUMENTS = ipaddress.IPv6Network("3fff::/20")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_GONE, _MOVED = frozenset({404, 410}), frozenset({301, 302, 303, 307, 308})
_HTTP_ERRORS = (
    *(httpcore.ProtocolError, httpcore.NetworkError, httpcore.TimeoutException),
    httpcore.UnsupportedProtocol,
)
_late: Counter[tuple[str, str, int | None]] = Counter()  # How often in a row a host was.
_deadline: ContextVar[float] = ContextVar("deadline", default=float("inf"))


def fetch(url: str, access: Access, max_bytes: int, *, deadline_s: float = DEADLINE_S) -> bytes:
    """The body of a URL; no more is read once it is over `max_bytes`.

    Raises `RowError` "image_not_allowed", or "image_unreadable" at the deadline;
    `FileNotFoundError` where the server has no such image, and `OSError` for what may be otherwise
    next time.
    """
    check_url(url, access)
    host = place_of(url)[:3]
    if _late[host] >= MAX_LATE:
        raise RowError("image_unreadable", f"{url}: its host was late {MAX_LATE} times in a row")
    before = _deadline.set(time.monotonic() + deadline_s)
    try:
        found = _follow(url, access, max_bytes)
        _late[host] = 0
        return found
    except (TimeoutError, *_HTTP_ERRORS) as error:
        if time.monotonic() >= _deadline.get():
            _late[host] += 1
            raise RowError("image_unreadable", f"{url}: not there after {deadline_s:g} s") from None
        # The texts of these errors quote what a server sent.
        raise OSError(type(error).__name__) from None
    finally:
        _deadline.reset(before)


def _follow(url: str, access: Access, max_bytes: int) -> bytes:
    """The body, redirects followed: on the same host, or to the open internet. What another source
    names is closed to them, and so are the settings' logins for it."""
    at = url
    for _ in range(MAX_REDIRECTS + 1):
        same = place_of(at)[:3] == place_of(url)[:3]
        elsewhere = access if same else replace(access, urls=())
        try:
            check_url(at, elsewhere)
        except RowError:
            raise RowError(NOT_ALLOWED, f"{url}: redirects to where rows may not go") from None
        found = _get(access.real(at) if same else at, elsewhere.names(at), max_bytes)
        if isinstance(found, bytes):
            return found
        at = urljoin(at, found)
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
        target=quote(f"{parts.path or '/'}{'?' * bool(parts.query)}{parts.query}", _AS_IT_IS),
    )
    extensions = {"timeout": dict.fromkeys(("connect", "read", "write", "pool"), _SILENCE_S)}
    with _pool(is_named).stream("GET", target, headers=headers, extensions=extensions) as response:
        if response.status in _MOVED:
            moved = {name.lower(): value for name, value in response.headers}
            return moved.get(b"location", b"").decode("latin-1")
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
    """A pool of its own for hosts that the settings name: the addresses of others are checked."""
    return httpcore.ConnectionPool(
        max_connections=64, keepalive_expiry=15.0, network_backend=_Network(public=not is_named)
    )


class _Network(httpcore.NetworkBackend):
    """Connects to the very address that was checked; no read outlasts the deadline."""

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
        if self._public and not all(map(is_public, addresses)):
            raise RowError(
                NOT_ALLOWED,
                f"{host} is not on the open internet: if it is meant, name the beginning of its"
                " URLs in the source's `allow` (seeds.N.allow=[…])",
            )
        for left in range(len(addresses) - 1, -1, -1):
            try:
                # What one address leaves of the time the next ones have, too.
                wait = _left(timeout) / (1 + bool(left))
                address = addresses[-1 - left]
                return _Stream(
                    self._sockets.connect_tcp(address, port, wait, local_address, socket_options)
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                if not left:
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
        if found in _NAT64:  # RFC 6052
            inner = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
        # RFC 4291: all else is local, or not given out. RFC 9637 is younger than this Python.
        return found in _GLOBAL and found not in _DOCUMENTS and found.is_global
    return found.is_global and not found.is_multicast
