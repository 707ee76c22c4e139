"""`mmpr show`, `diff` and completion, as the terminal and the shell meet them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from commands import mmpr
from pair_samples import make_rollout, picture, sample_rollouts, write_build

from mmpr_builder.config import Config, PairingConfig, valid_keys
from mmpr_builder.errors import InputError
from mmpr_builder.export import FORMATS, ExportOptions, write_export
from mmpr_builder.export.importing import import_pairs
from mmpr_builder.io import tables
from mmpr_builder.output import pair_parts
from mmpr_builder.records import Seed
from mmpr_builder.report.lookup import find_drop, find_pairs

ATTACK = "[red]no markup[/] \x1b[31mand no codes\x1b[0m"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("looking")
    image = picture(folder / "odd.png", "teal")
    odd = Seed(ATTACK, f"<image> {ATTACK}", (image,), ("1",), source="odd")
    bad = Seed(f"bad{ATTACK}", "?", (), ("1",), source="odd")
    write_build(
        folder / "out",
        [
            *sample_rollouts(folder),
            make_rollout(odd, ["so 1", f"{ATTACK} 2"], index=9),
            make_rollout(bad, ["so 2", "also 3"], index=10),
        ],
    )
    return folder / "out"


def test_pairs_are_found_by_question_pair_kind_and_source(built: Path) -> None:
    parts = pair_parts(built)
    every, total = find_pairs(parts, n=100)
    assert total == len(every) == 11
    two, found = find_pairs(parts, name="two", n=100)
    assert found == 2
    assert {row["seed_id"] for row in two} == {"two"}
    (one,), _ = find_pairs(parts, name=every[3]["id"][:8].upper(), n=100)
    assert one["id"] == every[3]["id"]
    assert find_pairs(parts, name=every[3]["id"][:4], n=100)[1] == 0
    open_ones, found = find_pairs(parts, kind="dropout_ntp", source="grid", n=2)
    assert (len(open_ones), found) == (2, 3)


def test_pairs_come_in_order_from_a_place_or_by_a_draw_that_can_be_repeated(built: Path) -> None:
    parts = pair_parts(built)
    ids = [row["id"] for row in find_pairs(parts, n=100)[0]]
    assert [r["id"] for r in find_pairs(parts, n=3, skip=4)[0]] == ids[4:7]
    drawn = [row["id"] for row in find_pairs(parts, n=5, draw=1)[0]]
    assert drawn == [row["id"] for row in find_pairs(parts, n=5, draw=1)[0]]
    assert drawn != ids[:5]
    assert set(drawn) < set(ids)


def test_show_prints_both_sides_beside_each_other_where_there_is_room(built: Path) -> None:
    wide = mmpr("show", str(built), "two", width=140)
    assert wide.returncode == 0, wide.stderr
    assert "Is [image 1] redder than [image 2] ?" in wide.stdout
    assert "Truth: yes" in wide.stdout
    (line,) = [s for s in wide.stdout.splitlines() if "chosen · answer yes" in s][:1]
    assert "rejected" in line
    narrow = mmpr("show", str(built), "two", width=70)
    (line,) = [s for s in narrow.stdout.splitlines() if "chosen · answer yes" in s][:1]
    assert "rejected" not in line
    assert max(len(s) for s in narrow.stdout.splitlines()) <= 70


def test_show_obeys_nothing_that_a_text_contains(built: Path) -> None:
    done = mmpr("show", str(built), "--source", "odd")
    assert "[red]no markup[/] ␛[31mand no codes␛[0m" in done.stdout
    assert "\x1b" not in done.stdout


def test_json_lines_hold_the_values_and_no_character_that_a_terminal_obeys(tmp_path: Path) -> None:
    name = "id \x1b[2J \x9b31m \u202e"
    seed = Seed(name, "How many?", (), ("1",), source=name)
    write_build(tmp_path / "out", [make_rollout(seed, ["so 1", "so 2"])])
    for words in (["show"], ["diff", str(tmp_path / "out")]):
        done = mmpr(words[0], str(tmp_path / "out"), *words[1:], "--json")
        assert done.returncode == 0, done.stderr
        assert not {"\x1b", "\x9b", "\u202e"} & set(done.stdout)
    (line,) = mmpr("show", str(tmp_path / "out"), "--json").stdout.splitlines()
    assert (json.loads(line)["seed_id"], json.loads(line)["source"]) == (name, name)


def test_show_says_why_a_question_has_no_pair(built: Path) -> None:
    done = mmpr("show", str(built), "easy")
    assert done.returncode == 1
    assert "easy gave no pair: all_correct (pairing)" in done.stderr
    drop = find_drop(str(built), "a.jsonl:9")
    assert drop is not None
    assert drop.reason == "image_missing"
    attack = mmpr("show", str(built), f"bad{ATTACK}")
    assert attack.returncode == 1
    assert "\x1b" not in attack.stderr
    nobody = mmpr("show", str(built), "nobody")
    assert nobody.returncode == 2
    assert "no pair fits ID nobody" in nobody.stderr


def test_show_gives_json_lines(built: Path) -> None:
    done = mmpr("show", str(built), "--json", "--kind", "format", "-n", "2", "--skip", "1")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["kind"] for row in rows] == ["format", "format"]
    assert {"chosen_text", "rejected_text", "question", "answers", "id"} <= rows[0].keys()


def test_show_prints_an_import_though_much_of_it_is_not_known(tmp_path: Path) -> None:
    pair = {"question": "1 + 1?", "chosen": "2", "rejected": "3"}
    (tmp_path / "a.jsonl").write_text(json.dumps(pair) + "\n")
    import_pairs(str(tmp_path / "a.jsonl"), str(tmp_path / "out"))
    done = mmpr("show", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    assert "1 + 1?" in done.stdout
    assert "The truth is not known" in done.stdout
    assert "None" not in done.stdout


def test_show_prints_pairs_made_elsewhere_once_they_are_exported(
    built: Path, tmp_path: Path
) -> None:
    bare = tmp_path / "bare.parquet"
    names = ["images", "prompt", "chosen", "rejected"]
    pq.write_table(pq.read_table(pair_parts(built)[0]).select(names), bare)
    done = mmpr("show", str(bare))
    assert done.returncode == 2
    assert "no column 'id'" in done.stderr
    write_export([str(bare)], FORMATS["trl"], str(tmp_path / "trl"), ExportOptions())
    done = mmpr("show", str(tmp_path / "trl"), "-n", "1")
    assert done.returncode == 0, done.stderr
    assert "How many?" in done.stdout
    assert "None" not in done.stdout


def test_a_build_without_pairs_says_so(tmp_path: Path) -> None:
    rollout = make_rollout(Seed("q", "?", (), ("1",)), ["so 2", "also 3"])
    write_build(tmp_path / "out", [rollout])
    done = mmpr("show", str(tmp_path / "out"))
    assert done.returncode == 2
    assert "gave no pair" in done.stderr
    with pytest.raises(InputError, match="there are no pairs"):
        write_export([str(tmp_path / "out")], FORMATS["trl"], str(tmp_path / "x"), ExportOptions())


def test_show_reads_a_row_group_once(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Any] = []

    class Counted(tables.ParquetFile):
        def read(self, columns: Sequence[str] | None = None, group: int | None = None) -> pa.Table:
            read.append(columns)
            return super().read(columns, group)

    monkeypatch.setattr(tables, "ParquetFile", Counted)
    rows, _ = find_pairs(pair_parts(built), n=100)
    assert (len(rows), sum("chosen_text" in columns for columns in read)) == (11, 1)


def test_a_place_in_a_random_draw_is_refused(built: Path) -> None:
    done = mmpr("show", str(built), "--random", "1", "--skip", "2")
    assert done.returncode == 2
    assert "--skip means nothing to a draw" in done.stderr


def test_show_says_how_to_go_on(built: Path) -> None:
    done = mmpr("show", str(built), "--kind", "format", "-n", "1")
    assert "1 of 3 pairs; next: --skip 1" in done.stdout
    wrong = mmpr("show", str(built), "--kind", "formt")
    assert wrong.returncode == 2
    assert "correctness, format, truncated, dropout_ntp" in wrong.stderr


def test_diff_prints_tables_and_json(built: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    config = Config(pairing=PairingConfig(kinds=("correctness",)))
    write_build(other, sample_rollouts(tmp_path), config)
    done = mmpr("diff", str(built), str(other), width=160)
    assert done.returncode == 0, done.stderr
    for words in ("pairing.kinds", "only in 1", "questions that end differently", "open"):
        assert words in done.stdout
    full = json.loads(mmpr("diff", str(built), str(other), "--json").stdout)
    assert full["pairs"]["dropout_ntp"] == [3, 0, 0]
    assert {"name": "open", "left": "pairs", "right": "kind_not_wanted"} in full["seeds"]


def test_report_is_drawn_again(built: Path) -> None:
    page = built / "report" / "index.html"
    page.unlink(missing_ok=True)
    done = mmpr("report", str(built))
    assert done.returncode == 0, done.stderr
    assert str(page) in done.stderr
    assert page.stat().st_size > 10_000


COMPLETIONS = [
    # words as bash takes them apart (at "=" too), the last one begun; offered; not offered
    (["sho"], ["show"], ["report"]),
    (["build", "de"], ["demo"], []),
    (["build", "demo", "sampling.e"], ["sampling.engine=", "sampling.endpoint.url="], ["out="]),
    (["build", "demo", "sampling.engine", "="], ["vllm", "endpoint", "replay"], ["out="]),
    (["build", "demo", "sampling.engine", "=", "re"], ["replay"], ["vllm"]),
    (["build", "demo", "sampling.n", "="], [], ["out="]),
    (["pair", "demo", "sampling.engine", "=", "vllm", "pairing.s"], ["pairing.seed="], ["demo"]),
    (["show", "out", "--kind", "f"], ["format"], ["correctness"]),
    (["export", "out", "x", "--to", ""], list(FORMATS), ["demo"]),
    (["lint", "out", "--for", "n"], ["nemo-rl"], ["trl"]),
]


@pytest.mark.parametrize(
    ("words", "offered", "others"), COMPLETIONS, ids=[" ".join(c[0]) for c in COMPLETIONS]
)
def test_a_shell_completes_commands_recipes_keys_and_values(
    words: list[str], offered: list[str], others: list[str]
) -> None:
    done = subprocess.run(
        [str(Path(sys.executable).with_name("mmpr"))],
        env={
            **os.environ,
            "_MMPR_COMPLETE": "complete_bash",
            "COMP_WORDS": " ".join(["mmpr", *words]),
            "COMP_CWORD": str(len(words)),
        },
        capture_output=True,
        text=True,
        timeout=60,
    )
    offers = done.stdout.split()
    assert set(offered) <= set(offers), done.stderr
    assert not set(others) & set(offers)


def test_trainers_are_those_of_the_exports() -> None:
    from mmpr_builder.cli.exporting import TRAINERS

    assert set(TRAINERS) == FORMATS.keys()


def test_every_key_is_offered() -> None:
    from mmpr_builder.cli.completion import values_of

    few = {key: values_of(key) for key in valid_keys() if values_of(key)}
    assert few["dropout.apply"] == ("no_truth", "all", "none")
    assert few["sampling.logprobs"] == ("true", "false", "tokens")
    assert few["seeds.N.scorer"][0] == "auto"
    assert "dropout_ntp" in few["pairing.kinds"]
    assert "out" not in few
