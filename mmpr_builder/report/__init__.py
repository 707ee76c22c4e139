"""The page where a person looks at a build: numbers, then pairs side by side.

    report/index.html   one file, no network, no script: opens anywhere, also on a phone

Texts that a model wrote are only ever shown as text.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import jinja2

from mmpr_builder import __version__, tables
from mmpr_builder.output import pair_parts, read_run
from mmpr_builder.report.figures import drop_bars, pass_rate_bars, read_lengths
from mmpr_builder.report.samples import pick_samples, read_samples

SAMPLES = 60
"""Pairs shown at most: enough to judge a build by eye, few enough for a page of ~3 MB."""

KINDS = {
    "correctness": "right answer against wrong answer",
    "format": "right answer against no clear final answer",
    "truncated": "right answer against a response cut at max_tokens",
    "dropout_ntp": "whole response against its own beginning, continued without the image",
}


def write_report(out: str | Path, *, samples: int = SAMPLES) -> str:
    """Write `report/index.html` of a finished build and return where it is.

    The same pairs and counts give the same page. Raises `InputError` when `out` holds no build.
    """
    base = os.fspath(out).rstrip("/")
    uri = f"{base}/report/index.html"
    tables.put_text(render_report(base, samples=samples), uri)
    return uri


def render_report(out: str, *, samples: int = SAMPLES) -> str:
    """The page as HTML."""
    run = read_run(out)
    parts = pair_parts(out)
    counts = run["counts"]
    context: dict[str, Any] = {
        "name": run["name"],
        "config": run["config"],
        "counts": counts,
        "seconds": run["this_run"]["seconds"],
        "kinds": KINDS,
        "drops": drop_bars(counts["drops"]),
        "pass_rates": pass_rate_bars(counts["pass_rates"]),
        "lengths": read_lengths(parts),
        "samples": read_samples(pick_samples(parts, samples)),
        "version": __version__,
    }
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["n"] = _number
    return environment.get_template("page.html.j2").render(context)


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.1f}"
