"""All rows of a build's inputs, screened, in order; with the demo's seeds and a check of images.

progress while planning: detail "evaluation sets: 1,280 pictures", then done 25,600 (screened rows)
"""

from __future__ import annotations

import os
import re
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

from mmpr_builder import seeds
from mmpr_builder.cluster.parallel import spreading
from mmpr_builder.cluster.session import has_ray_at_hand
from mmpr_builder.config import Config, SourceConfig
from mmpr_builder.dropout import may_pair
from mmpr_builder.engines.models import special_tokens
from mmpr_builder.errors import BuildConflictError, InputError, NothingUsableError, RowError
from mmpr_builder.folder import join, parts
from mmpr_builder.folder.manifest import Unit, has_manifest
from mmpr_builder.io import images
from mmpr_builder.io.access import access_of
from mmpr_builder.io.stores import is_local, is_there, read_bytes, remove_folder, resolve
from mmpr_builder.progress import Progress
from mmpr_builder.quality.screening import screen_seeds
from mmpr_builder.records import Drop, Seed
from mmpr_builder.seeds.fields import special_token
from mmpr_builder.seeds.roles import ALIASES

_TOLD_EVERY = 256


def read_rows(
    config: Config,
    sources: Sequence[SourceConfig],
    progress: Progress,
    taken: seeds.Taken | None = None,
) -> Iterator[Seed | Drop]:
    """The rows of the sources (`demo` replaced by its file) as a build would plan for them."""
    from mmpr_builder.audit.truths import screen  # Imports the scorers, which engines do without.

    rows = screen(seeds.read_sources(sources, limit=config.limit, taken=taken), config)
    marks = special_tokens(config)
    rows = (_askable(row, marks, taken, config) for row in rows)

    def told(pictures: int) -> None:
        if pictures % _TOLD_EVERY == 0:
            progress.update(detail=f"evaluation sets: {pictures:,} pictures")

    with spreading(config, progress) as spread:
        if config.quality.decontaminate.against:
            progress.update(detail="evaluation sets")
        for number, item in enumerate(screen_seeds(rows, config, spread, told)):
            if number % _TOLD_EVERY == 0:
                progress.update(done=number, detail="")
            yield item


class Pictures:
    """Opens the pictures of some seeds of each source, or of all; of the others that are files it
    asks whether they are there."""

    _FIRST, _EACH, _MOST = 32, 100, 500

    def __init__(self, config: Config, *, every: bool = False) -> None:
        self._access = access_of(config.seeds)
        self._every = every
        self._seen: Counter[str] = Counter()
        self.images = 0
        self.opened = 0
        self.bad: Counter[str] = Counter()
        """Reasons for which a build would drop the seeds."""
        self.first = ""

    def look(self, seed: Seed) -> None:
        self._seen[seed.source] += 1
        number = self._seen[seed.source]
        some = number <= self._FIRST or (number % self._EACH == 0 and self.opened < self._MOST)
        for ref in seed.images:
            self.images += 1
            try:
                if some or self._every:
                    self.opened += 1
                    images.open_image(images.read_bytes(ref, self._access))
                elif ref.row is None and ":" not in ref.uri[:16] and not os.path.exists(ref.uri):
                    raise RowError("image_missing", f"{ref.uri}: no such file")
            except RowError as error:
                self.bad[error.reason] += 1
                self.first = self.first or f"{error.detail} ({seed.origin})"


def _askable(
    item: Seed | Drop, marks: re.Pattern[str] | None, taken: seeds.Taken | None, config: Config
) -> Seed | Drop:
    """A seed, or a drop where nothing could be made of it: no truth to judge its responses by and
    no image to leave out, or a special token of the model. Earlier builds keep what they have."""
    if isinstance(item, Drop) or (taken is not None and taken.number_of(item.id) is not None):
        return item
    if marks is not None and (found := marks.search(item.question)):
        error = special_token(found[0])
    elif item.images or may_pair(item, config):
        return item
    else:
        detail = "neither a truth nor an image, which DropoutNTP leaves out"
        error = RowError("no_possible_pair", detail)
    return Drop(item.id, "seeds", error.reason, f"{item.origin}: {error.detail}")


class Usable:
    """Counts usable rows of a build while they pass by."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._drops: Counter[str] = Counter()
        self.first: dict[str, str] = {}
        """Reason of drops -> detail of the first one."""
        self.seeds = 0
        self.pairable = 0
        """Seeds that can give pairs."""

    def watch(self, items: Iterable[Seed | Drop]) -> Iterator[Seed | Drop]:
        """The same items."""
        for item in items:
            if isinstance(item, Drop):
                self._drops[item.reason] += 1
                self.first.setdefault(item.reason, item.detail)
            else:
                self.seeds += 1
                self.pairable += may_pair(item, self._config)
            yield item

    def check(self) -> None:
        """Raise `NothingUsableError` unless some seed can give pairs."""
        if self.pairable:
            return
        paths = ",".join(source.path for source in self._config.seeds)
        if self.seeds:
            truths, pictures = (", ".join(ALIASES[what]) for what in ("answer", "image"))
            raise NothingUsableError(
                f"seeds={paths}: no pair can come of {self.seeds:,} seeds: none has a truth, and"
                " none has images to leave out of a continuation (dropout.apply ="
                f" {self._config.dropout.apply}). Truths are read from {truths}, images"
                f" from {pictures}"
            )
        if not self._drops:
            raise NothingUsableError(f"seeds={paths}: no rows: give other seeds=")
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in self._drops.most_common())
        first = next(iter(self.first.items()))
        raise NothingUsableError(
            f"seeds={paths}: none of {self._drops.total():,} rows can be used: {reasons}. The first"
            f" is {': '.join(first)}"
        )


# --- the seeds `demo` -------------------------------------------------------------------------

DEMO = "demo"
DEMO_SEEDS = 512
"""Their number when neither the source nor the build sets a limit."""


def with_demo(config: Config, *, extend: bool = False) -> tuple[SourceConfig, ...]:
    """The sources with `demo` replaced by `<out>/demo_seeds`, written if it is not there.

    Raises `BuildConflictError` when a planned build there uses fewer of them, unless it is to grow:
    seed i is the same however many there are.
    """
    return tuple(
        source.model_copy(update={"path": _write_demo(config, extend)})
        if source.path == DEMO
        else source
        for source in config.seeds
    )


def remove_demo(config: Config) -> None:
    """Forget the demo seeds of a plan that was never completed (it may have had another limit)."""
    remove_folder(_folder(config.out))


def demo_fingerprint(config: Config) -> dict[str, str]:
    """Stands for the demo's files, which are written again when they were deleted."""
    return {DEMO: f"{_count(config)} seeds"}


def shrink_demo(out: str, inputs: Mapping[str, str]) -> None:
    """Write the demo seeds of a planned build (`Identity.inputs`) again where there are more: an
    extension did not come to its end."""
    said = [value for name, value in inputs.items() if name.partition(":")[2] == DEMO]
    counts = [int(match[1]) for value in said if (match := re.fullmatch(r"(\d+) seeds", value))]
    target = join(_folder(out), "seeds.jsonl")
    if counts and is_there(target) and read_bytes(target).count(b"\n") > max(counts):
        remove_folder(_folder(out))
        _write(out, max(counts))


def _folder(out: str) -> str:
    return join(out, "demo_seeds")


def _count(config: Config) -> int:
    limits = [(source.limit, config.limit) for source in config.seeds if source.path == DEMO]
    # A limit may exceed the default; the smaller of the two limits counts.
    return max(min((n for n in both if n is not None), default=DEMO_SEEDS) for both in limits)


def _write_demo(config: Config, extend: bool) -> str:
    target = join(_folder(config.out), "seeds.jsonl")
    if is_there(target):
        there, wanted = read_bytes(target).count(b"\n"), _count(config)
        if there == wanted or (there > wanted and has_manifest(config.out)):
            return target
        if has_manifest(config.out) and not extend:
            raise BuildConflictError(
                f"{config.out}: holds a build of {there} demo seeds, not {wanted}: give another"
                " out=, restore limit, or add --extend to sample only the new ones"
            )
        remove_demo(config)  # Left by a plan that was never made, or to be written larger.
    return _write(config.out, _count(config))


def _write(out: str, count: int) -> str:
    """Write so many where none are; returns the path of their list."""
    from mmpr_builder import demo

    fs, path = resolve(_folder(out))
    if is_local(fs):
        return str(demo.write_seeds(Path(path), count))
    with tempfile.TemporaryDirectory(prefix="mmpr-demo-") as scratch:
        written = demo.write_seeds(Path(scratch) / "seeds", count)
        # The list goes last: where it is, its pictures are complete.
        fs.put(f"{written.parent}/images/", f"{path}/images/", recursive=True)
        fs.put_file(str(written), f"{path}/{written.name}")
    return join(_folder(out), written.name)


# --- are the images there? --------------------------------------------------------------------

_PER_UNIT = 8
_LEAST = 3
"""Seeds without their image that are more than a bad row."""


def check_images(
    config: Config,
    todo: Sequence[Unit],
    finished: Sequence[Unit],
    progress: Progress,
    *,
    grown: bool = False,
) -> None:
    """Open the images of some seeds of the first, middle and last unit to be sampled.

    A single missing image is a drop. Where all are missing, the folder was moved or is not mounted,
    and going on would drop every seed for good: raises `InputError`. It is only a note where that
    may be right: seeds of `finished` units have theirs, the plan was `grown` just now, or other
    machines sample, which may see other folders.
    """
    if config.sampling.engine == "replay" or not todo:
        return
    missing, found = _look(config, todo)
    if found or len(missing) < min(_LEAST, sum(unit.count for unit in todo)):
        return
    seed, detail = missing[0]
    text = (
        f"none of the {len(missing)} seeds looked at has an image that opens; {seed.id!r}"
        f" ({seed.origin}): {detail}"
    )
    if has_ray_at_hand(config):
        progress.note(f"{text}; this machine may see other folders than those that sample")
    elif grown or _look(config, finished)[1]:
        progress.note(f"{text}; such seeds become drops")
    else:
        raise InputError(
            f"{text}: bring the images back to where they were when the build was planned (a link"
            " will do), mount them, or plan anew with another out="
        )


def _look(config: Config, units: Sequence[Unit]) -> tuple[list[tuple[Seed, str]], bool]:
    """Seeds without their image, up to the first one that has it; and whether one has it."""
    missing, access = [], access_of(config.seeds)
    for seed in _some(config.out, units) if units else ():
        try:
            images.open_image(images.read_bytes(seed.images[0], access))
        except RowError as error:
            missing.append((seed, error.detail))
            continue
        return missing, True
    return missing, False


def _some(out: str, units: Sequence[Unit]) -> Iterator[Seed]:
    for number in sorted({0, len(units) // 2, len(units) - 1}):
        seeds = (seed for _, seed in parts.read_seeds(out, units[number]) if seed.images)
        yield from islice(seeds, _PER_UNIT)
