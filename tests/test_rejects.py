"""Reject lists: what is on one is left out, all else stays what it was."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from pair_samples import sample_rollouts, write_build

from mmpr_builder.config import Config, PairingConfig, load_config
from mmpr_builder.errors import InputError
from mmpr_builder.output import read_run
from mmpr_builder.pairing.unpaired import read_reject_list

A, B = "a" * 32, "0123456789abcdef" * 2


def rows(out: Path) -> list[dict[str, object]]:
    found: list[dict[str, object]] = pq.read_table(out / "pairs").to_pylist()
    return found


def build(folder: Path, name: str, listed: list[str] | None) -> Path:
    rollouts = sample_rollouts(folder / "images")
    config = Config()
    if listed is not None:
        path = folder / f"{name}.txt"
        path.write_text("".join(f"{line}\n" for line in listed), encoding="utf-8")
        config = Config(pairing=PairingConfig(reject_list=str(path)))
    write_build(folder / name, rollouts, config)
    return folder / name


def test_a_note_may_hold_any_character_but_a_line_feed(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes(f"{'a' * 32}  # odd\x1c\x85\u2028 source\r\n{'b' * 32}\r\n".encode())
    assert read_reject_list(path) == {"a" * 32, "b" * 32}


def test_a_list_may_have_notes_and_blank_lines(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text(f"\ufeff# bad ones\n\n{A}  the truth is wrong\n{B}# twice\n{B}\n", "utf-8")
    assert read_reject_list(path) == {A, B}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (f"{A}\nq17\n", r"list.txt:2: 'q17' is not the id of a pair"),
        ('["' + A + '"]', r"list.txt:1: "),
        (A.upper(), "not the id"),
        (None, "pairing.reject_list="),
    ],
)
def test_what_is_no_list_is_refused_with_its_line(
    tmp_path: Path, content: str | None, said: str
) -> None:
    path = tmp_path / "list.txt"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=said):
        read_reject_list(path)


def test_listed_pairs_are_left_out_and_the_others_stay_as_they_were(tmp_path: Path) -> None:
    before = rows(build(tmp_path, "before", None))
    gone = [str(row["id"]) for row in before if row["kind"] == "format"][:2]
    after = build(tmp_path, "after", [*gone, A])
    assert rows(after) == [row for row in before if row["id"] not in gone]
    counts = read_run(after)["counts"]
    assert counts["reject_list"] == {"listed": 3, "left_out": 2}
    assert counts["pairs"]["total"] == len(before) - 2


def test_a_seed_whose_pairs_are_all_listed_is_dropped_for_that(tmp_path: Path) -> None:
    before = rows(build(tmp_path, "before", None))
    gone = [str(row["id"]) for row in before if row["seed_id"] == "open"]
    after = build(tmp_path, "after", gone)
    drops = {row["item_id"]: row for row in pq.read_table(after / "drops").to_pylist()}
    assert drops["open"]["reason"] == "rejected_by_list"
    assert drops["open"]["detail"] == "all its 3 pairs are on the list"
    assert "open" not in {row["seed_id"] for row in rows(after)}
    counts = read_run(after)["counts"]["seeds"]
    assert counts["read"] == counts["with_pairs"] + counts["dropped"]


def test_the_key_takes_a_path_as_text() -> None:
    assert load_config(None, ["pairing.reject_list=2024"]).pairing.reject_list == "2024"
