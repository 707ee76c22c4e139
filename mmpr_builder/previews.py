"""What a build would ask: a few seeds as they were read, with the prompts that a model would see.

for one in mb.preview(mb.load_config("my_recipe.yaml"), n=3):
    print(one.prompt)
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from itertools import islice

from mmpr_builder import prompts, seeds
from mmpr_builder.config import Config, DecontaminateConfig, source_label
from mmpr_builder.dropout import wants_blind, wants_continuation
from mmpr_builder.engines.shown import Shown, show_prompts
from mmpr_builder.errors import ConfigError, RowError
from mmpr_builder.escaping import line
from mmpr_builder.io.access import access_of
from mmpr_builder.io.images import open_image, read_all
from mmpr_builder.io.seed_files import tell
from mmpr_builder.pairing import scorer_for
from mmpr_builder.progress import Progress
from mmpr_builder.records import Seed
from mmpr_builder.report.samples import in_turns, thumbnail
from mmpr_builder.runs.inputs import Usable, read_rows, with_demo
from mmpr_builder.sampling import Request, request_for
from mmpr_builder.scoring.auto import counted, kind_of
from mmpr_builder.scoring.clean import clean

_LOOKED_AT = 64
"""Seeds of each source among which those that differ in kind are found."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview(Shown):
    """One seed and what a model would be asked for it (see `Shown`); nothing was sampled.

    `columns` says in which columns of its file question, image, answer, … stood. `scorer` judges
    the responses ("" without a truth; "auto: math" is what "auto" takes for this one).
    `continued` is "" where the build continues nothing of it; `blind_samples` counts those of
    `blind`. `sizes` are (width, height) of the images, `thumbnails` data URLs of small ones.
    """

    seed: Seed
    columns: Mapping[str, str]
    scorer: str
    template: str
    blind_samples: int
    sizes: tuple[tuple[int, int], ...]
    thumbnails: tuple[str, ...] = field(repr=False)
    notes: tuple[str, ...]

    def facts(self) -> list[tuple[str, str]]:
        """Labels and what there is to say of the seed, without its prompts."""
        seed, found = self.seed, self.columns.items()
        sizes = ["{} x {}".format(*size) for size in self.sizes]
        names = [
            "data URL" if ref.uri.startswith("data:") else line(ref.uri.rpartition("/")[2])
            for ref in seed.images
        ]
        images = [f"{name} ({size})" for name, size in zip(names, sizes, strict=False)] or names
        options = [f"{chr(ord('A') + i)}. {text}" for i, text in enumerate(seed.choices)]
        rows = [
            ("seed", f"{seed.id}  ({seed.origin}; source {seed.source or '(unnamed)'})"),
            ("columns", ", ".join(r if r == name else f"{r} ← {name}" for r, name in found)),
            ("images", ", ".join(images)),
            ("question", seed.question),
            ("options", "\n".join(options)),
            ("truth", " · ".join(dict.fromkeys(seed.answers)) or "not known"),
            ("scorer", self.scorer),
            ("template", f"{self.template} ({seed.language})"),
            ("tokens", f"{self.tokens:,}, {self.image_tokens:,} for images" if self.tokens else ""),
            ("dropped", self.error),
            *(("note", note) for note in self.notes),
        ]
        return [(label, text) for label, text in rows if text]

    def texts(self) -> list[tuple[str, str]]:
        """What is asked, under titles."""
        times = f", sampled {self.blind_samples} times" if self.blind_samples else ""
        found = [
            ("prompt", self.prompt),
            (f"without images{times}", self.blind if times or not self.continued else ""),
            ("DropoutNTP continues", self.continued),
        ]
        return [(title, text) for title, text in found if text]


def preview(config: Config, n: int = 3) -> tuple[Preview, ...]:
    """`n` seeds over all sources, of each those that differ in kind first, and what a model would
    be asked for them. No weights are loaded, no server is asked, nothing is written.

    `quality.decontaminate` and `near_duplicates`, which look at all of the input, are left out.
    Raises `SetupError` where settings or seeds are wrong, or the model has no chat template.
    """
    if config.rollouts:
        raise ConfigError("rollouts is set: nothing is asked for pooled builds, so leave it out")
    templates = prompts.load_templates(config)
    seeds.check_sources([source for source in config.seeds if source.path != "demo"])
    with tempfile.TemporaryDirectory(prefix="mmpr-preview-") as scratch:
        here = _in_folder(config, scratch)
        chosen = _spread(here)[:n]
        origins = [{s.origin for s, of in chosen if of == at} for at in range(len(here.seeds))]
        columns = [seeds.columns_of(*one) for one in zip(here.seeds, origins, strict=True)]
        asked = [templates.pick(seed) for seed, _ in chosen]
        opened = _Opened(here)
        requests = (
            request
            for (seed, _), template in zip(chosen, asked, strict=True)
            if (request := opened.request(seed, prompts.render(template, seed)))
        )
        with_images = any(seed.images for seed, _ in chosen)
        answers, notes = show_prompts(config, requests, with_images=with_images)
    shown = iter(answers)
    made = []
    for (seed, of), template, looked in zip(chosen, asked, opened.looked, strict=True):
        what = Shown(error=looked) if isinstance(looked, str) else next(shown)
        sizes, thumbnails = ((), ()) if isinstance(looked, str) else looked
        continued = what.continued if wants_continuation(seed, config.dropout) else ""
        one = Preview(
            **asdict(what) | {"continued": continued},
            seed=seed,
            columns=columns[of].get(seed.origin, {}),
            scorer=_scorer(seed, config),
            template=template.name,
            blind_samples=config.sampling.blind * wants_blind(seed, config),
            sizes=sizes,
            thumbnails=thumbnails,
            notes=notes,
        )
        made.append(one)
    return tuple(made)


def _in_folder(config: Config, folder: str) -> Config:
    """The same settings, the demo's seeds in `folder`, without what reads all of the input."""
    off = {"decontaminate": DecontaminateConfig(), "near_duplicates": False}
    here = {"out": folder, "quality": config.quality.model_copy(update=off)}
    few = here | {"limit": min(config.limit or _LOOKED_AT, _LOOKED_AT)}
    return config.model_copy(update=here | {"seeds": with_demo(config.model_copy(update=few))})


def _spread(config: Config) -> list[tuple[Seed, int]]:
    """The first seeds of the sources in turn, within each its kinds in turn; numbers of sources."""
    usable, lanes = Usable(config), []
    for at, source in enumerate(config.seeds):
        kinds: dict[tuple[bool, ...], list[tuple[Seed, int]]] = {}
        rows = usable.watch(read_rows(config, [source], Progress()))
        for seed in islice((row for row in rows if isinstance(row, Seed)), _LOOKED_AT):
            kind = (seed.has_truth, len(seed.images) > 1, bool(seed.choices))
            kinds.setdefault(kind, []).append((seed, at))
        if not kinds:
            tell(f"{source_label(source)}: no row can be used: `mmpr plan` says why")
        lanes.append(in_turns(kinds.values()))
    usable.check()
    return in_turns(lanes)


class _Opened:
    """Opens the pictures of seeds, each once, when their request is made."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self.looked: list[tuple[tuple[tuple[int, int], ...], tuple[str, ...]] | str] = []
        """Of each seed sizes and thumbnails, or why a picture does not open."""

    def request(self, seed: Seed, prompt: str) -> Request | None:
        """None where a picture does not open."""
        try:
            found = read_all(seed.images, access_of(self._config.seeds))
            opened = [open_image(data) for data in found]
        except RowError as error:
            self.looked.append(f"{error.reason}: {error.detail}")
            return None
        sizes = tuple(picture.size for picture in opened)
        self.looked.append((sizes, tuple(map(thumbnail, opened))))
        request = request_for(seed, prompt, found, self._config)
        request.memo["opened"] = opened
        return request


def _scorer(seed: Seed, config: Config) -> str:
    scorer = scorer_for(seed, config) if seed.has_truth else ""
    if scorer == "auto":
        kinds = [kind_of(clean(truth), seed.choices) for truth in counted(seed.answers)]
        scorer = f"auto: {', '.join(dict.fromkeys(kinds))}"
    judge = config.scoring.judge
    return f"{scorer}, else {line(judge.model or '')}" if scorer and judge.url else scorer
