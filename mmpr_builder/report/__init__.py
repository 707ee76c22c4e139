"""The page where a person looks at a build: figures, then pairs side by side.

    report/index.html   one file that needs no network

Texts that a model wrote are only ever shown as text; its policy lets no script run but its own.

    figures.py sides.py    what the counts say, and chosen against rejected
    samples.py texts.py    which pairs, and what differs in them
    examples.py            what was left aside, by the quality controls, too
    lookup.py              single pairs, for `mmpr show`
    page.html.j2 figures.html.j2 controls.html.j2 style.css browser.js
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from mmpr_builder import __version__
from mmpr_builder.errors import InputError
from mmpr_builder.escaping import visible
from mmpr_builder.io import tables
from mmpr_builder.output import mean_rate, pair_parts, read_run
from mmpr_builder.pairing.unpaired import read_reject_list
from mmpr_builder.report import figures
from mmpr_builder.report.examples import read_examples, shown_controls
from mmpr_builder.report.facts import build_facts, written_by
from mmpr_builder.report.samples import Browser, pick_samples, read_browser
from mmpr_builder.report.sides import read_sides

SAMPLES = 300
"""Pairs on the page at most: enough for an hour of looking."""

MOST_BYTES = 12_000_000
"""Of pairs and pictures on the page; with the figures it stays under 15 MB."""

KINDS = {
    "correctness": "right answer against wrong answer",
    "format": "right answer against no clear final answer",
    "truncated": "right answer against a response cut at max_tokens",
    "dropout_ntp": "whole response against its own beginning, continued without the image",
}
_FOLDER = Path(__file__).parent


def write_report(out: str | Path, *, samples: int = SAMPLES) -> str:
    """Write `report/index.html` of a finished build and return where it is.

    The same build gives the same page. Raises `InputError` when `out` holds no build.
    """
    base = os.fspath(out).rstrip("/")
    uri = f"{base}/report/index.html"
    tables.put_text(render_report(base, samples=samples), uri)
    return uri


def render_report(out: str, *, samples: int = SAMPLES) -> str:
    """The page as HTML."""
    run = read_run(out)
    counts = run["counts"]
    if "uses" not in counts:
        raise InputError(
            f"{out}/run.json: was written by an earlier version, without the counts that the report"
            " shows: run `mmpr pair` with the same recipe and settings"
        )
    parts = pair_parts(out)
    browser = read_browser(pick_samples(parts, samples), MOST_BYTES)
    rejected = _rejected(run["config"]["pairing"].get("reject_list"))
    script = (_FOLDER / "browser.js").read_text(encoding="utf-8")
    digest = hashlib.sha256(script.encode()).digest()
    examples = read_examples(out)
    context: dict[str, Any] = {
        "name": visible(run["name"]),
        "config": run["config"],
        "counts": counts,
        "facts": build_facts(run),
        "written_by": visible(written_by(run)),
        "kinds": KINDS,
        "browser": browser,
        "rejected": rejected,
        "sources_shown": sorted({pair["source"] for pair in browser.pairs}),
        "examples": examples,
        **shown_controls(out, run, examples),
        "sides": read_sides(parts),
        "seed_flow": figures.seed_flow(counts),
        "response_flow": figures.response_flow(counts),
        "flow_width": figures.WIDTH,
        "pass_rates": figures.pass_rate_bars(counts["pass_rates"]),
        "stacks": {table: figures.stacks(counts, table) for table in figures.STACKED},
        "rules": figures.rule_bars(counts["rules"]),
        "drops": figures.drop_bars(counts["drops"]),
        "version": __version__,
        # Our own files, and JSON in which no markup can begin.
        "style": Markup((_FOLDER / "style.css").read_text(encoding="utf-8")),
        "script": Markup(script),
        "script_hash": f"sha256-{base64.b64encode(digest).decode('ascii')}",
        "data": Markup(_data(run["name"], browser, rejected)),
    }
    return _environment().get_template("page.html.j2").render(context)


def _data(name: str, browser: Browser, rejected: Sequence[str] | None) -> str:
    """What the script reads, without any character that could end its element."""
    content = {
        "name": visible(name),
        "key": f"mmpr-rejects:{name}",
        "rejected": list(rejected or ()),
        "pairs": browser.pairs,
        "images": browser.images,
    }
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _rejected(uri: str | None) -> list[str] | None:
    """The list that this build was made with; None if it is no longer there."""
    if uri is None:
        return []
    try:
        return sorted(read_reject_list(uri))
    except InputError:
        return None


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "n": _number,
        "per_cent": _per_cent,
        "visible": visible,
        "mean_rate": mean_rate,
        "pass_rate_bars": figures.pass_rate_bars,
    }
    return environment


def _per_cent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.1f}"
