"""Reject lists: what is on one is left out, all else stays what it was."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from build_files import write_jsonl
from commands import mmpr
from pair_samples import sample_rollouts, write_build

from mmpr_builder import stages
from mmpr_builder.config import Config, PairingConfig, load_config
from mmpr_builder.errors import InputError
from mmpr_builder.library import make_rollout, write_rollouts
from mmpr_builder.output import read_run
from mmpr_builder.pairing import read_labels
from mmpr_builder.pairing.unpaired import read_reject_list
from mmpr_builder.prompts import load_template
from mmpr_builder.records import Response, Seed

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


# --- labels of undecided answers ---------------------------------------------------------------


def undecided_build(tmp_path: Path) -> str:
    """Two questions: of one, all answers but one are undecided."""
    template = load_template("final_answer_en")
    answers = {"sure": ["5 cm", "4 cm"], "open": ["5 cm", "about 3 or 4 inches maybe 5"]}
    rollouts = [
        make_rollout(
            Seed(name, "How long is it?", answers=("5 cm",)),
            template,
            [Response(f"So.\nFinal answer: {a}", 9, "stop", i) for i, a in enumerate(said)],
        )
        for name, said in answers.items()
    ]
    write_rollouts(rollouts, tmp_path / "out")
    return str(tmp_path / "out")


@pytest.mark.parametrize(
    ("label", "pairs", "outcomes"),
    [
        ("incorrect", 2, {"correct": 2, "incorrect": 2, "no_answer": 0, "undecided": 0}),
        ("correct", 1, {"correct": 3, "incorrect": 1, "no_answer": 0, "undecided": 0}),
        ("skip", 1, {"correct": 2, "incorrect": 1, "no_answer": 0, "undecided": 1}),
    ],
)
def test_a_label_decides_what_no_rule_does(
    tmp_path: Path, label: str, pairs: int, outcomes: dict[str, int]
) -> None:
    out = undecided_build(tmp_path)
    run = stages.pair(load_config(None, [f"out={out}"])).run
    assert run is not None
    assert (run["counts"]["pairs"]["total"], run["counts"]["outcomes"]["undecided"]) == (1, 1)
    page = (Path(out) / "report" / "index.html").read_text(encoding="utf-8")
    listed = [json.loads(line) for line in (Path(out) / "undecided.jsonl").read_text().splitlines()]
    assert [(item["seed"], item["answer"]) for item in listed] == [
        ("open", "about 3 or 4 inches maybe 5")
    ]
    assert f'data-id="{listed[0]["id"]}"' in page
    stale = {"id": "0" * 32, "label": "correct"}
    labels = write_jsonl(tmp_path / "labels.jsonl", [stale, {**listed[0], "label": label}])
    config = load_config(None, [f"out={out}", f"scoring.labels={labels}"])
    run = stages.pair(config).run
    assert run is not None
    assert run["counts"]["outcomes"] == outcomes
    assert run["counts"]["pairs"]["total"] == pairs
    assert (label in run["counts"]["rules"] and "label" in run["counts"]["rules"][label]) == (
        label != "skip"
    )
    page = (Path(out) / "report" / "index.html").read_text(encoding="utf-8")
    assert 'id="undecided"' not in page, "what has a label is not asked about again"


def test_labels_that_are_none_are_refused_with_their_line(tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    for text, said in (
        ('{"id": "1", "label": "maybe"}', r"labels\.jsonl:1: .*correct, incorrect, skip"),
        ('{"id": "1", "label": "skip"}\n[1]', r"labels\.jsonl:2: '\[1\]' is no label"),
        ('\n{"label": "skip"}', r"labels\.jsonl:2: "),
    ):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(InputError, match=said):
            read_labels(str(path))
    with pytest.raises(InputError, match=r"scoring\.labels=/nowhere"):
        read_labels("/nowhere")


def test_an_audit_counts_labels(tmp_path: Path) -> None:
    seeds = write_jsonl(tmp_path / "s.jsonl", [{"question": "What is 2 + 3?", "answer": "5"}])
    names = ["correct", "skip", "correct"]
    rows = [{"id": str(i), "label": name} for i, name in enumerate(names)]
    labels = write_jsonl(tmp_path / "labels.jsonl", rows)
    done = mmpr("audit", seeds, f"scoring.labels={labels}")
    assert "labels of undecided answers: 2 correct, 1 skip" in done.stderr
