"""What quality controls did is on the page and in the card; all off, one line says so."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pages import Page
from pair_samples import make_rollout, sample_rollouts, write_build

from mmpr_builder.config import Config, valid_keys
from mmpr_builder.io import tables
from mmpr_builder.output import read_run
from mmpr_builder.output.card import Measured, render_card
from mmpr_builder.quality.controls import CONTROLS, controls_of
from mmpr_builder.records import Drop, Seed
from mmpr_builder.report import write_report

ALL_ON: dict[str, Any] = {
    "licenses": "commercial",
    "left_out": [{"name": "vqa|<b>", "reason": "CC-BY-NC-4.0 allows non-commercial use only"}],
    "quality.decontaminate.against": ["eval.jsonl", "other.jsonl"],
    "quality.near_duplicates": True,
    "quality.suspect_truths": True,
    "quality.max_blind": 0.3,
    "quality.min_pass_rate": 0.2,
    "quality.hygiene": True,
    "quality.distinct": 0.95,
    "quality.min_faithful": 0.5,
    "quality.dropout_gate": True,
    "quality.balance.lengths": True,
    "quality.balance.answers": True,
    "quality.balance.shares": {"correctness": 1.0},
    "pairing.max_per_response": 4,
}
FAULTS = {
    "refusal": 1,
    "near_copy": 7,
    "unfaithful": 2,
    "continuation_missing_image": 3,
    "continuation_near_equal": 2,
}
COUNTS: dict[str, Any] = {
    "blind": {
        "seeds": {"measured": 5, "not_measured": 0, "solved": 2},
        "responses": {"correct": 20, "incorrect": 20, "no_answer": 0, "undecided": 0},
        "pass_rates": {"0.000": 1, "0.500": 2, "1.000": 2},
    },
    "continuations": {
        "0.25": {"made": 10, "fit": 8, "pairs": 3, "unfit": {"missing_image": 2}},
        "0.5": {"made": 10, "fit": 4, "pairs": 1, "unfit": {"missing_image": 4, "near_equal": 2}},
    },
    "balance": {
        "lengths": {
            "correctness": {
                "<grid>": {
                    "before": {"pairs": 90, "chosen": 20.0, "rejected": 14.25, "mean_gap": 5.75},
                    "after": {"pairs": 71, "chosen": 18.0, "rejected": 17.9, "mean_gap": 0.1},
                    "reached": True,
                }
            }
        },
        "answers": {
            "<grid>": {
                "yes_no": {
                    "before": {
                        "pairs": 12,
                        "surplus": 0.5,
                        "answers": {
                            "yes": {"chosen": 9, "rejected": 3},
                            "no": {"chosen": 3, "rejected": 9},
                        },
                    },
                    "after": {
                        "pairs": 8,
                        "surplus": 0.25,
                        "answers": {
                            "yes": {"chosen": 5, "rejected": 3},
                            "no": {"chosen": 3, "rejected": 5},
                        },
                    },
                    "reached": False,
                }
            }
        },
        "left_out": {"length_balance": {"correctness": 19}, "answer_balance": {"format": 4}},
    },
}
DROPS = [
    Drop("d1", "quality", "contaminated", "a.jsonl:1: question: eval.jsonl, eval.jsonl:7 (e), 0.9"),
    Drop("d2", "quality", "contaminated", "a:2: question_and_image: other.jsonl, o:1 (x), 0.8"),
    Drop("d3", "quality", "near_duplicate", "a.jsonl:3: nearly the same as 'd<i>9'"),
    Drop("d4", "quality", "solved_blind", "8 of 8 right without the image"),
    Drop("d5", "quality", "suspect_truth", "7 of 8 say 12"),
    Drop("d6", "quality", "pass_rate_outside", "pass rate 0.1"),
    Drop("d7", "quality", "a_new_control", "not known to the page"),
]


def set_at(tree: dict[str, Any], path: str, value: object) -> None:
    *above, last = path.split(".")
    for name in above:
        tree = tree[name]
    tree[last] = value


@pytest.fixture
def controlled(tmp_path: Path) -> Path:
    """A finished build whose run.json tells of every control."""
    out = tmp_path / "out"
    rollouts = sample_rollouts(tmp_path)
    sorry = make_rollout(
        Seed("sorry", "What is 2 + 2?", answers=("4",)), ["I'm sorry, but I cannot help <b>. 4"]
    )
    rollouts.append(replace(sorry, index=len(rollouts)))
    write_build(out, rollouts)
    tables.write_parquet(tables.rollouts_to_table(rollouts), out / "rollouts" / "unit-0.parquet")
    tables.write_parquet(tables.drops_to_table(DROPS), out / "drops" / "part-00000.parquet")
    run = read_run(out)
    for path, value in ALL_ON.items():
        set_at(run["config"], path, value)
    run["counts"] |= COUNTS
    run["counts"]["drops"]["quality"] = {
        reason: sum(drop.reason == reason for drop in DROPS) for reason in {d.reason for d in DROPS}
    }
    run["this_run"]["quality"] = FAULTS
    (out / "run.json").write_text(json.dumps(run))
    return out


def test_every_control_that_was_on_is_told_with_figures_and_examples(controlled: Path) -> None:
    html = Path(write_report(controlled)).read_text(encoding="utf-8")
    page = Page(html)
    for kind in CONTROLS:
        assert f'id="control-{kind.name}"' in html
        assert kind.what in page.text
    for said in (
        "eval.jsonl",
        "question and image",
        "'d<i>9'",
        "pass rate 0.1",
        "I'm sorry, but I cannot help <b>. 4",
        "vqa|<b>: CC-BY-NC-4.0",
        "+5.8",
        "in excess 50.0 %, after 25.0 %, not even",
        "9 : 3",
        "missing image 4, near equal 2",
        "of 20 continuations",
        "a_new_control",
    ):
        assert said in page.text, said
    assert "'d<i>9'" not in html
    assert "cannot help <b>" not in html.partition("<script")[0]
    assert write_report(controlled)
    assert Path(f"{controlled}/report/index.html").read_text(encoding="utf-8") == html


def test_the_card_has_a_row_for_each(controlled: Path) -> None:
    card = render_card(read_run(controlled), Measured(1, 1, 1, ("en",)))
    rows = [line for line in card.splitlines() if line.startswith("| ") and "`quality." in line]
    assert len(rows) == len(CONTROLS) - 2  # Licences and pair policy have other keys.
    assert "| DropoutNTP gate | `quality.dropout_gate=true` | 20 continuations |" in card
    assert "missing image 3, near equal 2" in card
    assert r"vqa\|\<b\>" in card


def test_a_build_without_controls_says_so_in_a_line_and_no_more(tmp_path: Path) -> None:
    write_build(tmp_path / "out", sample_rollouts(tmp_path))
    html = Path(write_report(tmp_path / "out")).read_text(encoding="utf-8")
    (line,) = [line for line in html.splitlines() if 'id="controls"' in line]
    assert "Quality controls: all were off." in line
    assert all(kind.keys[0] in line for kind in CONTROLS)
    assert "control-" not in html
    card = render_card(read_run(tmp_path / "out"), Measured(1, 1, 1, ("en",)))
    assert "All were off. There are:" in card


def test_a_control_that_left_nothing_aside_says_so(tmp_path: Path) -> None:
    config = Config.model_validate(
        {"quality": {"max_pass_rate": 0.9, "distinct": 1.0, "dropout_gate": True}}
    )
    write_build(tmp_path / "out", sample_rollouts(tmp_path), config)
    text = Page(Path(write_report(tmp_path / "out")).read_text(encoding="utf-8")).text
    for said in ("5 questions", "14 responses", "3 continuations"):
        assert f"Nothing to leave aside among {said}." in text
    assert "found nothing" not in text
    write_build(tmp_path / "none", [], config)
    text = Page(Path(write_report(tmp_path / "none")).read_text(encoding="utf-8")).text
    assert "There were no continuations to look at." in text


def test_every_key_of_a_control_is_a_setting() -> None:
    tables = {key.rpartition(".")[0] for key in valid_keys()}
    assert {key for kind in CONTROLS for key in kind.keys} <= {*valid_keys(), *tables}


def test_evaluation_settings_alone_turn_nothing_on() -> None:
    config = Config.model_validate({"quality": {"decontaminate": {"policy": "image"}}})
    run = {"config": config.model_dump(mode="json"), "counts": {"drops": {}}, "this_run": {}}
    on, off = controls_of(run)
    assert on == ()
    assert len(off) == len(CONTROLS)
