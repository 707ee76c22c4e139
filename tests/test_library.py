"""The stages as functions: with a client of one's own, in threads, tasks, maps and notebooks."""

from __future__ import annotations

import ast
import asyncio
import inspect
import json
import pkgutil
import runpy
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from build_files import write_jsonl
from openai_server import OpenAIServer, choices
from PIL import Image

import mmpr_builder as mb
from mmpr_builder.errors import InputError, RowError
from mmpr_builder.io import stores
from mmpr_builder.output import pair_parts
from mmpr_builder.scoring import SCORER_VERSION

EXAMPLES = Path(__file__).parents[1] / "examples"
MATHS = [("x^2 - 1", "(x-1)(x+1)"), ("2x + 2", "2(x+1)"), ("x + 1", "x + 2"), (r"\frac12", "0.5")]
OUTCOMES = ["correct", "correct", "incorrect", "correct"]


def answer(body: dict[str, Any]) -> tuple[int, Any]:
    """Right and wrong answers by turns; a description where none is asked for; a continuation."""
    last = body["messages"][-1]
    if last["role"] == "assistant":
        assert "image_url" not in json.dumps(body["messages"])
        assert body["continue_final_message"] is True
        return 200, choices(" and then a dog sleeps on a sofa.")
    texts = [part["text"] for part in last["content"] if part["type"] == "text"]
    if "Final answer" in texts[-1]:
        said = [f"Row {i} has some.\nFinal answer: {3 + i % 2}" for i in range(body["n"])]
    else:
        said = [f"A red wall {i} with a small white label in a corner." for i in range(body["n"])]
    return 200, choices(*said)


@pytest.fixture
def seeds(tmp_path: Path) -> Path:
    Image.new("RGB", (40, 30), "firebrick").save(tmp_path / "red.png")
    rows = [
        {"id": "a", "image": "red.png", "question": "<image>\nHow many?", "answer": "3"},
        {"id": "b", "image": "red.png", "question": "<image>\nDescribe it."},
        {"id": "c", "answer": "5"},
    ]
    return write_jsonl(tmp_path / "seeds.jsonl", rows)


@pytest.fixture
def server() -> Iterator[OpenAIServer]:
    with OpenAIServer(answer) as running:
        yield running


def check(out: Path) -> None:
    """Both kinds of pairs, with their pictures, and rollouts that pair again to the same."""
    data = mb.load_pairs(out)
    assert set(data["kind"]) == {"correctness", "dropout_ntp"}
    assert {row["images"][0].size for row in data} == {(40, 30)}
    assert data[0]["chosen"][0]["role"] == "assistant"
    assert all(row["chosen_rule"] for row in data if row["kind"] == "correctness")
    again = [pair for r in mb.read_rollouts(out) for pair in mb.judge_rollout(r)[1]]
    assert sorted(pair.id for pair in again) == sorted(data["id"])
    before = sorted(data["id"])
    mb.pair(mb.load_config(None, [f"out={out}"]))
    assert sorted(mb.load_pairs(out)["id"]) == before


def test_a_script_does_the_whole_method_with_a_client_of_its_own(
    tmp_path: Path, seeds: Path, server: OpenAIServer, capsys: pytest.CaptureFixture[str]
) -> None:
    main = runpy.run_path(str(EXAMPLES / "own_client.py"))["main"]
    main(str(seeds), server.url, "org/vlm", str(tmp_path / "out"))
    assert "dropped: c: missing_question" in capsys.readouterr().out
    assert len(inspect.getsource(main).splitlines()) <= 30
    check(tmp_path / "out")


def test_the_notebook_runs_from_its_first_cell_to_its_last(
    tmp_path: Path, seeds: Path, server: OpenAIServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "URL": server.url, "MODEL": "org/vlm", "SEEDS": str(seeds), "OUT": str(tmp_path / "out")
    }.items():  # fmt: skip
        monkeypatch.setenv(f"MMPR_EXAMPLE_{name}", value)
    cells = json.loads((EXAMPLES / "stages.ipynb").read_text(encoding="utf-8"))["cells"]
    names: dict[str, Any] = {}

    async def run() -> None:
        for number, cell in enumerate(cells):
            if cell["cell_type"] == "code":
                flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
                code = compile("".join(cell["source"]), f"cell {number}", "exec", flags)
                if (waits := eval(code, names)) is not None:  # noqa: S307 (our own text)
                    await waits
        # Code that is not asynchronous, in the running loop.
        again = mb.roll_out(names["seeds"], names["config"])
        assert [r.responses for r in again] == [r.responses for r in names["rollouts"]]

    asyncio.run(run())
    assert names["pairs"][0]._repr_html_().startswith("<table>")
    check(tmp_path / "out")


def test_a_pair_shows_what_a_model_wrote_as_text() -> None:
    seed = mb.Seed("<b>1", "?", answers=("3",))
    texts = ["<script>x</script>\nFinal answer: 3", "Final answer: <i>4"]
    responses = [mb.Response(text, 4, "stop", i) for i, text in enumerate(texts)]
    verdicts = [mb.score_response(text, "3") for text in texts]
    (pair,), _ = mb.build_pairs(seed, responses, verdicts, mb.Config())
    html = pair._repr_html_()
    assert "&lt;script&gt;x" in html
    assert "<script" not in html
    assert "<i>" not in html
    assert "50% of 2 right" in html


def test_no_name_of_the_library_is_that_of_a_module() -> None:
    modules = {module.name for module in pkgutil.iter_modules(mb.__path__)}
    assert not modules & set(mb.__all__)
    for name in mb.__all__:
        found = getattr(mb, name)
        assert name == "__version__" or inspect.getdoc(found), name


def test_a_joint_neither_loses_nor_doubles_the_kept_part() -> None:
    response = mb.Response("A red circle lies left of a blue square.", 9, "stop", 0)
    request = mb.continuation_request(mb.Seed("1", "<image>\nDescribe."), response)
    user, kept = request["messages"]
    assert (user["content"], kept["content"]) == ("Describe.", "A red circle lies left")
    for said in (" of it.", "A red circle lies left of it."):
        made = mb.join(response, said).continuation
        assert made is not None
        assert made.prefix + made.text == "A red circle lies left of it."
    both = mb.join(mb.join(response, " x", 0.25), mb.Response(" y", 3, "length", 7), 0.75)
    assert [(c.keep, c.tokens, c.finish_reason) for c in both.continuations] == [
        (0.25, 0, "stop"),
        (0.75, 3, "length"),
    ]


def test_images_are_read_where_a_seed_has_them(tmp_path: Path, seeds: Path) -> None:
    first = next(iter(mb.read_seeds(seeds)))
    assert isinstance(first, mb.Seed)
    assert mb.read_images(first) == ((tmp_path / "red.png").read_bytes(),)
    assert mb.read_images(first.images[0]) == mb.read_images(first)
    with pytest.raises(RowError, match="image_not_allowed"):
        mb.read_images(mb.ImageRef("https://host/a.png"))
    with pytest.raises(RowError, match="image_count"):
        mb.chat_request(replace(first, images=()), mb.load_template("open_en"))


def test_pairs_and_rollouts_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    seed = mb.Seed("q", "How many?", answers=("3",))
    template = mb.load_template("final_answer_en")
    texts = ("Final answer: 3", "Final answer: 4")
    responses = [mb.Response(text, 4, "stop", i) for i, text in enumerate(texts)]
    rollout = mb.make_rollout(seed, template, responses, model="m")
    _, pairs, drops = mb.judge_rollout(rollout)
    assert (len(pairs), drops) == (1, [])
    assert mb.write_pairs(pairs, tmp_path / "out", [rollout]) == 1
    before = stores.read_bytes(pair_parts(tmp_path / "out")[0])
    with pytest.raises(ValueError, match="no rollout of the pairs of q"):
        mb.write_pairs(pairs, tmp_path / "out", [])
    assert stores.read_bytes(pair_parts(tmp_path / "out")[0]) == before, "the old ones stay"
    assert mb.write_rollouts([rollout, rollout], tmp_path / "two") == 2
    assert [found.index for found in mb.read_rollouts(tmp_path / "two")] == [0, 1]
    (tmp_path / "two" / "manifest.json").touch()
    with pytest.raises(InputError, match="holds a build's rollouts"):
        mb.write_rollouts([rollout], tmp_path / "two")
    assert len(list(mb.read_rollouts(tmp_path / "two"))) == 2
    with pytest.raises(InputError, match="no rollouts here"):
        list(mb.read_rollouts(tmp_path / "nothing"))


def outcome(answer: str, gold: str) -> str:
    return mb.score_answer(answer, gold, scorer="math").outcome


def test_stages_work_in_threads() -> None:
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda one: outcome(*one), MATHS * 5))
    assert found == OUTCOMES * 5


def test_stages_work_inside_a_map_of_datasets(tmp_path: Path) -> None:
    from datasets import Dataset

    data = Dataset.from_list([{"said": said, "gold": gold} for said, gold in MATHS])
    judged = data.map(
        lambda row: {"outcome": outcome(row["said"], row["gold"])},
        num_proc=2,
        new_fingerprint=f"v{SCORER_VERSION}",
        cache_file_name=str(tmp_path / "judged.arrow"),
    )
    assert judged["outcome"] == OUTCOMES


def test_stages_work_in_plain_tasks_of_ray() -> None:
    import ray

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        task = ray.remote(lambda *one: mb.score_answer(*one, scorer="math").outcome)
        assert ray.get([task.remote(*one) for one in MATHS]) == OUTCOMES
    finally:
        ray.shutdown()
