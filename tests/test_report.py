"""The page where a person looks at pairs: true figures, a fair choice, nothing that runs."""

from __future__ import annotations

import base64
import io
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from pair_samples import make_rollout, picture, sample_rollouts, write_build
from PIL import Image

from mmpr_builder.errors import InputError
from mmpr_builder.output import pair_parts
from mmpr_builder.records import Seed
from mmpr_builder.report import write_report
from mmpr_builder.report.figures import drop_bars, pass_rate_bars, read_lengths
from mmpr_builder.report.samples import (
    THUMBNAIL_BYTES,
    Span,
    compare,
    pick_samples,
    read_samples,
    thumbnail,
)

VOID = {"meta", "img", "input", "br", "polyline"}


class Page(HTMLParser):
    """Tags and attributes of a page; fails on tags that do not close in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str, str]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(html)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def page_of(out: Path) -> str:
    return Path(write_report(out)).read_text(encoding="utf-8")


def said(spans: Sequence[Span], mark: str) -> str:
    return "".join(span.text for span in spans if span.mark == mark)


def test_the_page_shows_figures_and_all_pairs_of_a_small_build(tmp_path: Path) -> None:
    write_build(tmp_path / "out", sample_rollouts(tmp_path))
    page = Page(page_of(tmp_path / "out"))
    assert page.tags["article"] == 10
    assert "10 of 10 pairs" in page.text
    assert "of 7 questions gave pairs" in page.text
    for phrase in ("all_correct", "Is [image 1] redder than [image 2] ?", "answer: yes"):
        assert phrase in page.text
    assert page.tags["img"] == 4 + 2 * 2 + 3  # Of "one", "two" with two images each, and "open".


def test_nothing_on_the_page_runs_or_loads(tmp_path: Path) -> None:
    attack = '</p><script>alert(1)</script><img src="http://x/y"> {{ 7*7 }} so 11'
    seed = Seed("s", f"<image>\n{attack}", (picture(tmp_path / "x.png", "teal"),), ("2",))
    rollout = make_rollout(replace(seed, source=attack), ["so 2", attack])
    write_build(tmp_path / "out", [rollout])
    html = page_of(tmp_path / "out")
    page = Page(html)
    assert page.tags["script"] == 0
    assert "<script>alert(1)</script>" in page.text  # As text, three times over.
    assert "{{ 7*7 }}" in page.text
    sources = [value for tag, name, value in page.attributes if (tag, name) == ("img", "src")]
    assert len(sources) == 1
    assert all(source.startswith("data:image/jpeg;base64,") for source in sources)
    assert not [a for a in page.attributes if a[1] in ("href", "onload", "onerror", "onclick")]
    assert "default-src 'none'" in html


def test_the_same_build_gives_the_same_page(tmp_path: Path) -> None:
    write_build(tmp_path / "out", sample_rollouts(tmp_path))
    assert page_of(tmp_path / "out") == page_of(tmp_path / "out")


def test_a_build_without_pairs_has_a_page_too(tmp_path: Path) -> None:
    write_build(tmp_path / "out", [])
    page = Page(page_of(tmp_path / "out"))
    assert page.tags["article"] == 0
    assert "0 of 0 pairs" in page.text


def test_no_build_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no finished build here"):
        write_report(tmp_path)


def test_samples_are_shared_by_kinds_and_sources_and_come_from_different_seeds(
    tmp_path: Path,
) -> None:
    rollouts = []
    for i in range(60):
        source = "big" if i < 55 else "small"
        texts = [f"way {j} to 3" for j in range(3)] + [f"way {j} to 4" for j in range(3)]
        texts += ["hm"] if i % 20 == 0 else []
        rollouts.append(make_rollout(Seed(f"s{i}", "?", (), ("3",), source=source), texts, index=i))
    write_build(tmp_path / "out", rollouts)
    parts = pair_parts(tmp_path / "out")
    places = pick_samples(parts, 12)
    assert Counter((p.kind, p.source) for p in places) == {
        ("correctness", "big"): 3,
        ("correctness", "small"): 3,
        ("format", "big"): 6,  # Three seeds have any: two of each.
    }
    samples = read_samples(places)
    assert [s.row["id"] for s in samples] == [p.id for p in places]
    correctness = [s.row["seed_id"] for s in samples if s.row["kind"] == "correctness"]
    assert len(set(correctness)) == len(correctness)
    formless = Counter(s.row["seed_id"] for s in samples if s.row["kind"] == "format")
    assert sorted(formless.values()) == [2, 2, 2]
    assert pick_samples(parts, 12) == places


def test_what_differs_between_chosen_and_rejected_is_marked() -> None:
    chosen, rejected = compare("Row 1: red, blue. So 3", "Row 1: red, green. So 4", "correctness")
    assert (said(chosen, "new"), said(rejected, "new")) == ("blue.3", "green.4")
    assert said(chosen, "same") == "Row 1: red,  So "
    assert "".join(s.text for s in chosen) == "Row 1: red, blue. So 3"
    assert "".join(s.text for s in rejected) == "Row 1: red, green. So 4"


def test_texts_that_go_different_ways_are_not_sprinkled_with_marks() -> None:
    chosen, _ = compare("a b c d e f g", "q r b s t u v w x", "correctness")
    assert said(chosen, "new") == ""


def test_the_kept_beginning_of_a_continued_response_is_grey() -> None:
    chosen, rejected = compare("A red cat on a mat", "A red dog on a mat", "dropout_ntp")
    assert said(chosen, "prefix") == said(rejected, "prefix") == "A red "
    assert said(chosen, "new") == "cat on a mat"


def test_chinese_is_compared_by_characters() -> None:
    chosen, rejected = compare("图中有三个红色圆形。", "图中有四个红色圆形。", "correctness")
    assert (said(chosen, "new"), said(rejected, "new")) == ("三", "四")


def test_very_long_texts_are_compared_by_their_beginning_only() -> None:
    left = "same start " + " ".join(f"l{i}" for i in range(3000))
    right = "same start " + " ".join(f"r{i}" for i in range(3000))
    chosen, _ = compare(left, right, "correctness")
    assert said(chosen, "same") == "same start "


def test_a_text_that_is_cut_on_the_page_says_so(tmp_path: Path) -> None:
    long = "word " * 3000 + "so 4"
    rollout = make_rollout(Seed("s", "?", (), ("3",)), ["so 3", long])
    write_build(tmp_path / "out", [rollout])
    text = Page(page_of(tmp_path / "out")).text
    assert f"{len(long) - 6000:,} more characters in the pair itself" in text


def test_control_characters_are_shown_not_sent(tmp_path: Path) -> None:
    rollout = make_rollout(Seed("s", "?", (), ("3",)), ["so 3", "\x1b[31m\x00 so 4"])
    write_build(tmp_path / "out", [rollout])
    html = page_of(tmp_path / "out")
    assert "␛[31m␀" in html
    assert "\x1b" not in html
    assert "\x00" not in html


def test_thumbnails_are_small_jpegs() -> None:
    noise = Image.effect_noise((1600, 900), 120).convert("RGB")
    buffer = io.BytesIO()
    noise.save(buffer, "PNG")
    url = thumbnail(buffer.getvalue())
    assert len(url) <= THUMBNAIL_BYTES + 40
    small = Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))
    assert (small.format, max(small.size)) == ("JPEG", 420)


@pytest.mark.parametrize(
    ("rate", "label"),
    [
        ("0.000", "0"),
        ("0.031", "–10"),
        ("0.100", "–10"),
        ("0.125", "–20"),
        ("0.500", "–50"),
        ("0.969", "–99"),
        ("1.000", "100"),
    ],
)
def test_pass_rates_fall_into_tenths_with_none_and_all_apart(rate: str, label: str) -> None:
    bars = pass_rate_bars({rate: 3})
    assert [(bar.label, bar.count) for bar in bars if bar.count] == [(label, 3)]
    assert len(bars) == 12


def test_drops_are_listed_by_number() -> None:
    bars = drop_bars({"pairing": {"all_correct": 2, "no_correct": 5}, "seeds": {"empty": 2}})
    assert [(b.label, b.note, b.count) for b in bars] == [
        ("no_correct", "pairing", 5),
        ("all_correct", "pairing", 2),
        ("empty", "seeds", 2),
    ]


def test_lengths_are_given_by_kind(tmp_path: Path) -> None:
    write_build(tmp_path / "out", sample_rollouts(tmp_path))
    lengths = {item.kind: item for item in read_lengths(pair_parts(tmp_path / "out"))}
    assert set(lengths) == {"correctness", "format", "dropout_ntp"}
    dropout = lengths["dropout_ntp"]
    assert (dropout.pairs, dropout.chosen_mean, dropout.longest) == (3, 11.0, 11)
    assert re.fullmatch(r"[\d., ]+", dropout.chosen_curve)
