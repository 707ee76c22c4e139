"""Which places the image strings of rows may name. Rows come from strangers; pairs are published.

    "a.png"  "/data/coco/1.jpg"     files below the source's `root` or one of its `roots`, links
                                    resolved, and the hub's cache
    "https://host/1.jpg"            what the source's `allow` names (allow: [https]), and what is
                                    below a root that is a URL itself
    "data:image/png;base64,…"       always

Nothing else: no chained URLs (`zip://…::https://…`), no other protocols, no pipes or devices.
Planning checks each string against its own source, later readers its protocol or host again.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from pydantic import ValidationError

from mmpr_builder.config import NETWORK, Config, SourceConfig
from mmpr_builder.errors import ConfigError, RowError
from mmpr_builder.escaping import public_url
from mmpr_builder.io.members import member_ref, split_zip
from mmpr_builder.io.seed_files import homes, hub_caches
from mmpr_builder.io.stores import absolute, is_url
from mmpr_builder.records import ImageRef

NOT_ALLOWED = "image_not_allowed"
_REMEMBERED = 4096
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Access:
    """Places below which images may lie, and protocols that may be used anywhere.

    Hosts of `urls` may be private ones, as the settings name them. `secrets`, which are stored
    nowhere: URL or `scheme://host` without user and query -> with them.
    """

    folders: tuple[str, ...] = ()
    urls: tuple[str, ...] = ()
    protocols: frozenset[str] = frozenset()
    secrets: tuple[tuple[str, str], ...] = field(default=(), repr=False)

    def names(self, url: str) -> bool:
        """Whether the settings name a place that holds this URL."""
        *host, path = place_of(url)
        for place in self.urls:
            *there, folder = place_of(place)
            if host == there and f"{path}/".startswith(f"{folder.rstrip('/')}/"):
                return True
        return False

    def real(self, uri: str) -> str:
        """A stored URL with the user and the query that the settings have for it."""
        known = dict(self.secrets)
        uri = public_url(uri) if _host(uri) != public_url(_host(uri)) else uri
        host = _host(uri)
        return known.get(uri) or known.get(host, host) + uri.removeprefix(host)


def access_of(sources: Iterable[SourceConfig]) -> Access:
    """What rows of any of these sources may name."""
    found = Access()
    for source in sources:
        named = [place for place in (source.path, source.root) if place and is_url(place)]
        entries = [entry.rstrip("/") for entry in source.allow if is_url(entry)]
        base = source.root or _base(source)
        places = [place for place in (source.root, *source.roots) if place]
        secrets = [(public_url(whole), whole) for url in named for whole in (url, _host(url))]
        found = Access(
            (*found.folders, *(absolute(place) for place in places if not is_url(place))),
            (*found.urls, *entries, *([public_url(base)] if is_url(base) else ())),
            found.protocols | {entry for entry in source.allow if not is_url(entry)},
            (*found.secrets, *((public, whole) for public, whole in secrets if public != whole)),
        )
    return found


def _base(source: SourceConfig) -> str:
    """Where relative images of a source at a URL start: beside a file, in a folder; a public
    layout may have them beside its folder of questions."""
    if not is_url(source.path):
        return ""
    parts = public_url(source.path).rstrip("/").split("/")
    inner = next((i for i, part in enumerate(parts) if set(part) & set("*?[")), len(parts))
    is_file = inner == len(parts) and "." in parts[-1] and inner > 3
    beside = source.format not in ("auto", "conversations") and inner > 3
    return "/".join(parts[: inner - 1 if is_file or beside else inner])


def source_of(path: str, **settings: object) -> SourceConfig:
    """A source as in a recipe. Raises `ConfigError`."""
    try:
        return SourceConfig.model_validate({"path": path, **settings})
    except ValidationError as error:
        found = error.errors()[0]
        place, text = ".".join(map(str, found["loc"])), found["msg"].removeprefix("Value error, ")
        raise ConfigError(f"{place}: {text}") from None


def sampled_access(config: Config) -> Access:
    """For images that were sampled from: their hashes tell whether they are the same."""
    return replace(access_of(config.seeds), protocols=frozenset(NETWORK))


def check_url(url: str, access: Access) -> None:
    """Raise `RowError` "image_not_allowed" unless the settings open this URL."""
    try:
        scheme, _, _, path = place_of(url)
    except ValueError as error:
        raise RowError(NOT_ALLOWED, f"{url[:200]}: not a URL ({error})") from None
    chained = "::" in url and scheme not in _PORTS  # Over HTTP it is text like any other.
    if chained or ".." in unquote(path).replace("\\", "/").split("/"):
        raise RowError(NOT_ALLOWED, f"{url[:200]}: chained URLs and '..' are never followed")
    if scheme in access.protocols or access.names(url):
        return
    fix = "no setting does for this protocol"
    if scheme in NETWORK:
        fix = f"add {scheme}, or the beginning of these URLs, to its `allow` (seeds.N.allow=[…])"
    raise RowError(NOT_ALLOWED, f"{url[:200]}: its source allows no such URLs: {fix}")


def place_of(url: str) -> tuple[str, str, int | None, str]:
    """Scheme, host, port and path, as the client reads them. Raises `ValueError`."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port or _PORTS.get(parts.scheme), parts.path


def _host(url: str) -> str:
    """`https://bob:pw@host` of `https://bob:pw@host/a/b?c`."""
    scheme, mark, rest = url.partition("://")
    return scheme + mark + rest.partition("/")[0].partition("?")[0]


class _Base(NamedTuple):
    """Where the relative images of some rows start, and what rows may name because of it."""

    prefix: str
    folders: tuple[str, ...]
    access: Access
    archive: tuple[str, str] | None = None
    """(zip archive, folder in it) whose members relative names are."""


class Places:
    """Decides where the images of one source's rows lie; use a new one for each reading.

    It remembers where folders lead to: a row costs one `lstat`.
    """

    def __init__(self, access: Access) -> None:
        self.access = access
        self._real: dict[str, str] = {}
        self._bases: dict[str, _Base] = {}

    def ref(self, image: str, base: str) -> ImageRef:
        """The image that a row's string names; relative paths start at `base`.

        Raises `RowError` "image_not_allowed" for what the source does not allow.
        """
        if image.startswith("data:"):
            return ImageRef(image)
        start = self._bases.get(base) or self._started(base)
        is_whole = image.startswith(("/", "~/", "file://")) or is_url(image)
        if start.archive and not is_whole:
            return member_ref(*start.archive, image)
        path = absolute(image) if is_whole else start.prefix + image.removeprefix("./")
        if not is_url(path):
            self._check_path(path, base, start)
        elif _host(path) != public_url(_host(path)):
            raise RowError(NOT_ALLOWED, f"{image[:200]}: a row may not name a user of a URL")
        else:
            check_url(path, start.access)
        return ImageRef(path)

    def _started(self, base: str) -> _Base:
        if len(self._bases) > _REMEMBERED:
            self._bases.clear()
        folders = [self._folder(folder) for folder in self.access.folders]
        if is_url(base):
            url = public_url(base)
            own = replace(self.access, urls=(*self.access.urls, url))
            found = _Base(f"{url.rstrip('/')}/", tuple(folders), own)
        else:
            own_folders = [f"{home.rstrip('/')}/" for home in homes(base)] if base else []
            prefix = f"{os.path.abspath(base or '.').rstrip('/')}/"
            found = _Base(prefix, (*own_folders, *folders), self.access, split_zip(base))
        self._bases[base] = found
        return found

    def _check_path(self, path: str, base: str, start: _Base) -> None:
        folder, _, name = path.rpartition("/")
        found = self._folder(folder or "/") + name
        if name in ("", ".", "..") or os.path.islink(found):
            found = os.path.realpath(found)
        if found.startswith(start.folders) or found.startswith(self._caches):
            return
        leads = "" if found == os.path.abspath(path) else f" leads to {found[:200]}, which"
        raise RowError(
            NOT_ALLOWED,
            f"{path[:200]}{leads} is outside of {base or 'any image root'}: where rows may name"
            " files of its folder, add that to the source's `roots` (seeds.N.roots=[…], or"
            " --roots of an import)",
        )

    @cached_property
    def _caches(self) -> tuple[str, ...]:
        return tuple(map(self._folder, hub_caches()))

    def _folder(self, folder: str) -> str:
        """Where a folder leads to, with a slash behind it."""
        if folder not in self._real:
            if len(self._real) > _REMEMBERED:
                self._real.clear()
            self._real[folder] = f"{os.path.realpath(folder).rstrip('/')}/"
        return self._real[folder]
