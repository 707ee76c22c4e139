"""The page where a person looks at a build: figures, then pairs side by side.

    report/index.html    one file that needs no network
    report/pairs-2.html  further pairs

Texts that a model wrote are only ever shown as text; its policy lets no script run but its own.

    verdict.py             what deserves a look first
    figures.py sides.py    what the counts say, and chosen against rejected
    samples.py texts.py    which pairs, and what differs in them
    examples.py            what was left aside, by the quality controls, too, or is undecided
    lookup.py              single pairs, for `mmpr show`
    page.html.j2 figures.html.j2 controls.html.j2 style.css browser.js
    preview.html.j2        seeds and prompts, for `mmpr preview`
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from mmpr_builder import __version__
from mmpr_builder.errors import InputError
from mmpr_builder.escaping import redacted, visible
from mmpr_builder.io import stores, tables
from mmpr_builder.output import mean_rate, pair_parts, read_run
from mmpr_builder.pairing.unpaired import read_reject_list
from mmpr_builder.report import figures
from mmpr_builder.report.examples import read_examples, read_undecided, shown_controls
from mmpr_builder.report.facts import build_facts, written_by
from mmpr_builder.report.lookup import Place, places_of
from mmpr_builder.report.samples import (
    Browser,
    in_order,
    pick_samples,
    read_browser,
)
from mmpr_builder.report.sides import read_sides
from mmpr_builder.report.verdict import findings

MOST_MORE = 1_500
"""Pairs beside those of the first page that get pages without being asked for."""

SAMPLES = 300
"""Pairs on the page at most: enough for an hour of looking."""

MOST_BYTES = 12_000_000
"""Of pairs and pictures on the page; with the figures it stays under 15 MB."""

KINDS = {
    "correctness": "right answer against wrong answer",
    "format": "right answer against no clear final answer",
    "truncated": "right answer against a response cut at max_tokens",
    "dropout_ntp": "whole response against its own beginning, continued without the image",
    "step": "right steps and a right end against the same steps and a wrong one",
    "judged": "better text against worse one, as a judge says in both orders",
}
_FOLDER = Path(__file__).parent


def write_report(out: str | Path, *, samples: int = SAMPLES, all_pairs: bool = False) -> str:
    """Write `report/index.html` of a finished build and return where it is; the pairs that are not
    on it follow on `report/pairs-2.html`, …, where there are few or `all_pairs` is set.

    The same build gives the same pages. Raises `InputError` when `out` holds no build.
    """
    base = os.fspath(out).rstrip("/")
    run = read_run(base)
    if "uses" not in run["counts"]:
        raise InputError(
            f"{base}/run.json: was written by an earlier version, without the counts that the"
            " report shows: run `mmpr pair` with the same recipe and settings"
        )
    every = list(places_of(pair_parts(base)))
    places = pick_samples(every, samples)
    for name in stores.names_in(f"{base}/report"):
        if name.startswith("pairs-"):
            stores.remove_file(f"{base}/report/{name}")
    browsers = [read_browser(places, MOST_BYTES)]
    rest = in_order(every) if len(every) - len(places) <= MOST_MORE or all_pairs else []
    while rest := _without(rest, browsers[-1]):
        browsers.append(read_browser(rest[:samples], MOST_BYTES))
    for number, browser in enumerate(browsers, 1):
        page = _rendered(base, run, browser, number, len(browsers))
        tables.put_text(page, f"{base}/report/{_page(number)}")
    return f"{base}/report/{_page(1)}"


def _without(places: Sequence[Place], browser: Browser) -> list[Place]:
    shown = {pair["id"] for pair in browser.pairs}
    return [place for place in places if place.id not in shown]


def _page(number: int) -> str:
    return "index.html" if number == 1 else f"pairs-{number}.html"


def _rendered(out: str, run: Mapping[str, Any], browser: Browser, number: int, pages: int) -> str:
    """One page as HTML: the first has the figures, each has the pairs of its `browser`."""
    rejected = _rejected(run["config"]["pairing"].get("reject_list"))
    script = (_FOLDER / "browser.js").read_text(encoding="utf-8")
    digest = hashlib.sha256(script.encode()).digest()
    context: dict[str, Any] = {
        "name": visible(run["name"]),
        "out": visible(redacted(out)),
        "counts": run["counts"],
        "kinds": KINDS,
        "browser": browser,
        "number": number,
        "pages": [_page(n) for n in range(1, pages + 1)],
        "rejected": rejected,
        "sources_shown": sorted({pair["source"] for pair in browser.pairs}),
        "version": __version__,
        # Our own files, and JSON in which no markup can begin.
        "style": Markup((_FOLDER / "style.css").read_text(encoding="utf-8")),
        "script": Markup(script),
        "script_hash": f"sha256-{base64.b64encode(digest).decode('ascii')}",
        "data": Markup(_data(run["name"], browser, rejected)),
        **(_figures(out, run) if number == 1 else {}),
    }
    return _environment().get_template("page.html.j2").render(context)


def _figures(out: str, run: Mapping[str, Any]) -> dict[str, Any]:
    """What the first page says of the whole build."""
    counts, examples, sides = run["counts"], read_examples(out), read_sides(pair_parts(out))
    return {
        "config": run["config"],
        "facts": build_facts(run),
        "written_by": visible(written_by(run)),
        "examples": examples,
        **shown_controls(out, run, examples),
        "sides": sides,
        "findings": findings(counts, sides),
        "undecided": read_undecided(out, run["config"]),
        "seed_flow": figures.seed_flow(counts),
        "response_flow": figures.response_flow(counts),
        "flow_width": figures.WIDTH,
        "flow_label": figures.LABEL,
        "pass_rates": figures.pass_rate_bars(
            counts.get("shown_rates") or counts["pass_rates"], _samples(run)
        ),
        "samples": _samples(run),
        "stacks": {table: figures.stacks(counts, table) for table in figures.STACKED},
        "rules": figures.rule_bars(counts["rules"]),
        "drops": figures.drop_bars(counts["drops"]),
    }


def _samples(run: Mapping[str, Any]) -> int:
    """Responses that each seed has; 0 where that differs."""
    sampling = run["config"]["sampling"]
    return 0 if run.get("pooled") or sampling["policy"] != "fixed" else int(sampling["n"])


def render_previews(name: str, previews: Sequence[Any]) -> str:
    """A page of `previews.Preview`s with their pictures."""
    shown = [(p.facts(), p.texts(), p.thumbnails) for p in previews]
    style = Markup((_FOLDER / "style.css").read_text(encoding="utf-8"))
    page = _environment().get_template("preview.html.j2")
    return page.render(name=visible(name), shown=shown, style=style)


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
        # Whatever a row named: a table's source, an option of a list.
        finalize=lambda value: visible(value) if type(value) is str else value,
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
