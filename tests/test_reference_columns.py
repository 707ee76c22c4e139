"""Reference log-probabilities on their way from rollouts into pairs and exports."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from engine_asks import rolled, settings
from pair_samples import sample_rollouts, write_build

from mmpr_builder.config import load_config
from mmpr_builder.engines import check_engine, make_sampler
from mmpr_builder.errors import ConfigError
from mmpr_builder.export import FORMATS, ExportOptions, write_export
from mmpr_builder.io.tables import column_names, rollouts_to_table, write_parquet
from mmpr_builder.output import load_pairs, read_run
from mmpr_builder.records import Continuation, Response, Rollout, Template, Trace

COLUMNS = ("ref_chosen_logps", "ref_rejected_logps", "reference")
TOKENS = load_config(None, ["sampling.logprobs=tokens"])


def traced(rollout: Rollout, by: str = "a") -> Rollout:
    """Every response worth minus its number, its continuation that less a half; one has none."""

    def one(number: int, response: Response) -> Response:
        missing = response.text == "I see 4"
        own = Trace((1, 2), -1.0, None if missing else -float(number), "too_long" * missing, by)
        made = [
            replace(c, trace=replace(own, reference=-number - 0.5)) for c in response.continuations
        ]
        return replace(response, trace=own).with_continuations(made)

    return replace(rollout, responses=tuple(map(one, range(9), rollout.responses)))


@pytest.mark.parametrize("export", [False, True])
def test_pairs_have_the_sums_of_both_sides(tmp_path: Path, export: bool) -> None:
    rollouts = [traced(rollout) for rollout in sample_rollouts(tmp_path)]
    out = tmp_path / "out"
    write_build(out, rollouts, TOKENS)
    assert read_run(out)["counts"]["references"] == {"known": 16, "too_long": 1}
    if export:
        write_export([str(out)], FORMATS["trl"], str(tmp_path / "trl"), ExportOptions())
        out = tmp_path / "trl"
    pairs = load_pairs(out)
    assert len(pairs) == 10
    for row in pairs:
        half = 0.5 if row["kind"] == "dropout_ntp" else 0
        rejected = None if row["rejected_text"] == "I see 4" else -row["rejected_index"] - half
        wanted = (-row["chosen_index"], rejected, "a")
        assert tuple(row[name] for name in COLUMNS) == wanted


def test_without_the_setting_there_are_no_columns(tmp_path: Path) -> None:
    write_build(tmp_path / "out", [traced(rollout) for rollout in sample_rollouts(tmp_path)])
    assert not {*COLUMNS} & {*load_pairs(tmp_path / "out").column_names}


def test_sides_of_two_models_have_no_reference(tmp_path: Path) -> None:
    rollout = traced(sample_rollouts(tmp_path)[0])
    other = traced(rollout, "b").responses[2:]
    mixed = replace(rollout, responses=(*rollout.responses[:2], *other))
    write_build(tmp_path / "out", [mixed], TOKENS)
    pairs = load_pairs(tmp_path / "out")
    assert len(pairs) == 4
    assert {*pairs[COLUMNS[0]], *pairs[COLUMNS[1]], *pairs[COLUMNS[2]]} == {None}


@pytest.fixture
def stored(tmp_path: Path) -> Rollout:
    continued = Continuation("so", " 3", 1, "stop", 3, 0.5)
    response = Response("so it is 3", 4, "stop", 40, -0.25, continued)
    plain = sample_rollouts(tmp_path)[0]
    return traced(replace(plain, responses=(response,)))


def test_a_replay_has_the_stored_tokens(tmp_path: Path, stored: Rollout) -> None:
    write_parquet(rollouts_to_table([stored]), tmp_path / "rollouts" / "unit-00000.parquet")
    words = ("sampling.engine=replay", f"sampling.replay_from={tmp_path / 'rollouts'}")
    config = settings(*words, "sampling.logprobs=tokens", "sampling.n=1", "dropout.apply=all")
    check_engine(config)
    template = Template("t", stored.prompt.replace(stored.seed.question, "{question}"))
    found = rolled(stored.seed, template, config, make_sampler(config))
    assert found.error is None
    assert found.responses == stored.responses


def test_a_replay_of_rollouts_without_tokens_is_refused(tmp_path: Path, stored: Rollout) -> None:
    bare = [replace(r, trace=None).with_continuations(()) for r in stored.responses]
    place = tmp_path / "rollouts" / "unit-00000.parquet"
    write_parquet(rollouts_to_table([replace(stored, responses=tuple(bare))]), place)
    assert "traces" not in column_names(place)
    words = ("sampling.engine=replay", f"sampling.replay_from={place.parent}", "dropout.apply=none")
    check_engine(settings(*words))
    with pytest.raises(ConfigError, match="holds no tokens"):
        check_engine(settings(*words, "sampling.logprobs=tokens"))


REFUSED: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "needs sampling.engine=vllm": (("sampling.engine=endpoint",), {}),
    "needs 'raw_logprobs'": ((), {"logprobs_mode": "processed_logprobs"}),
}


@pytest.mark.parametrize("message", REFUSED)
def test_engines_that_cannot_tell_are_refused(message: str) -> None:
    words, engine = REFUSED[message]
    with pytest.raises(ConfigError, match=message):
        check_engine(settings(*words, "sampling.logprobs=tokens", **engine))
