"""The data card: the hub reads it, `datasets` loads the folder by it, nothing is left out."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import DatasetCard
from pair_samples import make_rollout, sample_rollouts, write_build

from mmpr_builder.config import Config, SourceConfig
from mmpr_builder.io import tables
from mmpr_builder.output import pair_features, read_run
from mmpr_builder.output.card import Measured, home_page, render_card
from mmpr_builder.records import Seed


def card_of(out: Path) -> DatasetCard:
    return DatasetCard.load(out / "README.md")


@pytest.fixture
def built(tmp_path: Path) -> Path:
    rollouts = sample_rollouts(tmp_path)
    out = tmp_path / "out"
    seeds = (
        SourceConfig(path="grid.jsonl", license="CC-BY-4.0"),
        SourceConfig(path="sums|<b>.jsonl", name="sums"),
    )
    write_build(out, rollouts, Config(seeds=seeds, model="some/`model`"))
    tables.write_parquet(tables.rollouts_to_table(rollouts), out / "rollouts" / "unit-0.parquet")
    return out


def test_the_hub_reads_the_head_of_the_card(built: Path) -> None:
    data = card_of(built).data
    assert data.pretty_name == "sample"
    assert data.size_categories == ["n<1K"]
    assert data.language == ["en", "zh"]
    assert data.task_categories == ["image-text-to-text", "visual-question-answering"]
    assert (data.license, data.license_name) == ("other", "see-sources")
    info = data.dataset_info
    (images,) = [f for f in info["features"] if f["name"] == "images"]
    assert images["list"] == {"image": {"mode": "RGB"}}
    (split,) = info["splits"]
    assert (split["name"], split["num_examples"]) == ("train", 10)
    assert split["num_bytes"] == info["dataset_size"] > 0
    files = [p.stat().st_size for p in (built / "pairs").iterdir()]
    assert info["download_size"] == sum(files)


def test_datasets_loads_the_folder_as_the_card_says(built: Path) -> None:
    from datasets import load_dataset, load_dataset_builder

    info = load_dataset_builder(str(built)).info
    assert info.features == pair_features()
    assert info.splits["train"].num_examples == 10
    loaded = load_dataset(str(built))
    assert list(loaded) == ["train"]
    assert loaded["train"].features == pair_features()
    assert loaded["train"][0]["images"][0].size == (96, 72)


def test_every_source_is_named_with_its_licence_or_that_it_is_not_stated(built: Path) -> None:
    text = card_of(built).text
    assert "| `grid.jsonl` | its own | CC-BY-4.0 |" in text
    assert r"| `sums\|<b>.jsonl` | sums | not stated |" in text
    assert "| grid | 5 | 61.1% | 3 | 9 |" in text


def test_the_card_says_how_to_train_and_what_its_limits_are(built: Path) -> None:
    text = card_of(built).text
    for words in ("DPOTrainer", "--to internvl", "--to ms-swift", "--to llama-factory"):
        assert words in text
    assert "Known limits" in text
    assert "`some/'model'`" in text


def test_the_card_links_to_the_project_as_its_package_names_it(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert f"[`mmpr_builder`]({home_page()})" in card_of(built).text
    told = tmp_path / "mmpr_builder-9.dist-info" / "METADATA"
    told.parent.mkdir()
    urls = ("Method, https://arxiv.org/abs/2411.10442", "Homepage, https://example.org/a,b")
    lines = ("Metadata-Version: 2.4", "Name: mmpr-builder", *(f"Project-URL: {u}" for u in urls))
    told.write_text("\n".join(lines), encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert home_page() == "https://example.org/a,b"


def test_commands_in_the_card_are_real(built: Path) -> None:
    from mmpr_builder.export import FORMATS

    named = set(re.findall(r"--(?:to|for) ([a-z-]+)", card_of(built).text))
    assert named <= set(FORMATS)


def test_a_build_without_pairs_or_truths_has_a_card(tmp_path: Path) -> None:
    write_build(tmp_path / "out", [make_rollout(Seed("s", "?"), ["so it is"])])
    card = card_of(tmp_path / "out")
    assert card.data.dataset_info["splits"][0]["num_examples"] == 0
    assert card.data.language is None
    assert "| all | 1 | – | 0 | 0 |" in card.text


def test_the_same_build_gives_the_same_card(tmp_path: Path) -> None:
    rollouts = sample_rollouts(tmp_path)
    cards = []
    for name in ("a", "b"):
        write_build(tmp_path / name, rollouts)
        cards.append((tmp_path / name / "README.md").read_text(encoding="utf-8"))
    assert cards[0] == cards[1]


def test_the_commits_of_what_came_from_a_hub_are_on_record(built: Path) -> None:
    run = read_run(str(built))
    shown = render_card({**run, "revisions": {"org/`name": "ab12"}}, Measured(1, 1, 1, ()))
    assert "Commits on the hub: `org/'name` at `ab12`." in shown
    assert "Commits on the hub" not in render_card(run, Measured(1, 1, 1, ()))


HOSTILE = "![x](javascript:alert(1)) <img src=x> | *b* `c` $x$ www.evil.org\x1b\u202e\u200b\n# h"


def test_names_from_data_are_text_in_the_card_and_no_markup(tmp_path: Path) -> None:
    rollouts = sample_rollouts(tmp_path)
    rollouts = [replace(r, seed=replace(r.seed, source=HOSTILE)) for r in rollouts]
    seeds = (SourceConfig(path=HOSTILE, name=HOSTILE, license=HOSTILE),)
    config = Config(seeds=seeds, name=HOSTILE, model=HOSTILE)
    write_build(tmp_path / "out", rollouts, config)
    text = card_of(tmp_path / "out").text
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u202a-\u202e]", text)
    escaped = re.compile(r"\\[!-/:-@\[-`{-~]")
    outside_code = re.sub(r"`[^`\n]*`", "", escaped.sub("", text))
    assert "evil" in outside_code
    for markup in ("](java", "<img", "*b*", "$x$", " www.evil", "| # h"):
        assert markup not in outside_code
    assert "\n# h" not in text


@pytest.mark.parametrize(
    ("licences", "expected"),
    [
        (("CC BY 4.0", "MIT"), ("other", "see-sources")),
        (("CC BY 4.0", "cc-by-4.0"), ("cc-by-4.0", None)),
        (("Apache-2.0",), ("apache-2.0", None)),
        (("house rules",), ("other", "house rules")),
    ],
)
def test_a_licence_that_all_sources_state_is_that_of_the_data(
    tmp_path: Path, licences: tuple[str, ...], expected: tuple[str, str | None]
) -> None:
    seeds = tuple(SourceConfig(path=f"{i}.jsonl", license=one) for i, one in enumerate(licences))
    write_build(tmp_path / "out", sample_rollouts(tmp_path), Config(seeds=seeds))
    data = card_of(tmp_path / "out").data
    assert (data.license, data.get("license_name")) == expected
