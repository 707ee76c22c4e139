"""The command line as its user meets it: exit codes, and words that say what to do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from build_files import write_jsonl
from commands import mmpr, mmpr_alone
from small_builds import make_config, sample_here

from mmpr_builder.cli.app import read_settings, typed

ROOT = Path(__file__).parents[1]
COMMANDS = {
    *("build", "sample", "pair", "plan", "settings", "report", "show", "diff", "status"),
    *("audit", "export", "import", "lint", "preview", "push"),
}
PAIRED = (
    *("sampling.engine=endpoint", "sampling.endpoint.url=http://127.0.0.1:9/v1"),
    *("sampling.n=4", "model=fake", "distributed.unit_queries=4"),
)


@pytest.fixture
def seeds(tmp_path: Path) -> Path:
    path = tmp_path / "seeds.jsonl"
    rows = [
        {"id": "a", "question": "What is 2 + 3?", "answer": "5"},
        {"id": "b", "question": "Say something."},
        {"id": "c", "answer": "5"},
    ]
    return write_jsonl(path, rows)


BAD_SET_UP = [
    # words, what the message must say
    (["sampling.temprature=1"], ["sampling.temprature", "sampling.temperature"]),
    (["nowhere.yaml"], ["nowhere.yaml", "demo"]),
    (["seeds=/nowhere/seeds.jsonl"], ["/nowhere/seeds.jsonl"]),
    (["model=/nowhere/model"], ["/nowhere/model"]),
    (["prompts.template=/nowhere/prompt.txt"], ["/nowhere/prompt.txt"]),
    (["engine.tensor_parallel_sise=2"], ["tensor_parallel_sise", "tensor_parallel_size"]),
    (["sampling.engine=replay"], ["replay_from"]),
    (["sampling.max_tokens=100000000"], ["100,000,000", "whole context of 4,096 tokens"]),
    (["dropout.max_tokens=4096"], ["dropout.max_tokens = 4,096 leaves no room for a prompt"]),
    (["sampling.engine=endpoint"], ["endpoint.url"]),
    (["pairing.reject_list=/nowhere/list.txt"], ["/nowhere/list.txt", "saved in a report"]),
]


@pytest.mark.parametrize(("words", "said"), BAD_SET_UP, ids=[words[0] for words, _ in BAD_SET_UP])
def test_bad_set_up_ends_at_once_with_exit_code_2_and_the_fix(
    tmp_path: Path, seeds: Path, words: list[str], said: list[str]
) -> None:
    given = words if words[0].startswith("seeds") else [*words, f"seeds={seeds}"]
    done = mmpr("build", *given, f"out={tmp_path / 'out'}")
    assert done.returncode == 2, done.stderr
    for word in said:
        assert word in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out" / "rollouts").exists()


def test_a_prompt_without_a_question_is_refused(tmp_path: Path, seeds: Path) -> None:
    prompt = tmp_path / "prompt.txt"
    prompt.write_text("Answer: Final answer: X", encoding="utf-8")
    done = mmpr("build", f"seeds={seeds}", f"prompts.template={prompt}", f"out={tmp_path / 'o'}")
    assert done.returncode == 2
    assert "{question}" in done.stderr
    assert str(prompt) in done.stderr


def test_plan_says_what_a_build_would_cost_and_samples_nothing(tmp_path: Path, seeds: Path) -> None:
    out = tmp_path / "out"
    done = mmpr("plan", f"seeds={seeds}", "sampling.n=4", "sampling.max_tokens=100", f"out={out}")
    assert done.returncode == 0, done.stderr
    assert "1: 1 with a truth, 0 without" in done.stderr
    assert "missing_question" in done.stderr
    assert "no_possible_pair" in done.stderr
    assert "400 at most" in done.stderr
    assert not (out / "rollouts").exists()


def test_a_plan_goes_on_where_an_endpoint_is_down_and_says_so_at_the_end(
    tmp_path: Path, seeds: Path
) -> None:
    words = (f"seeds={seeds}", *PAIRED, f"out={tmp_path / 'out'}")
    done = mmpr("plan", *words, "scoring.judge.url=http://127.0.0.1:9/v1")
    assert done.returncode == 2
    assert "1: 1 with a truth, 0 without" in done.stderr
    told = done.stderr[done.stderr.index("error: ") :]
    assert "127.0.0.1:9/v1' does not answer" in told
    assert "scoring.judge.model is not" in told


@pytest.mark.parametrize("name", ["build", "sample"])
def test_a_build_of_nothing_in_particular_is_not_begun(tmp_path: Path, name: str) -> None:
    done = mmpr(name, f"out={tmp_path / 'out'}")
    assert done.returncode == 2
    assert f"{name} demo` makes the demo" in done.stderr
    assert not (tmp_path / "out").exists()


def test_the_command_is_told_as_it_can_be_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = tmp_path / ".venv" / "bin" / "mmpr"
    command.parent.mkdir(parents=True)
    command.touch(mode=0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(command)])
    monkeypatch.setenv("PATH", "/nowhere")
    assert typed() == ".venv/bin/mmpr"
    monkeypatch.setenv("PATH", str(command.parent))
    assert typed() == "mmpr"


def test_a_submitted_build_goes_to_where_it_was_submitted_from(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MMPR_SUBMITTED_FROM", "/home/me")
    assert read_settings(["demo"]).out == "/home/me/out/demo"
    assert read_settings(["demo", "out=/shared/x"]).out == "/shared/x"
    assert read_settings(["demo", "out=s3://b/x"]).out == "s3://b/x"


def test_pair_without_rollouts_says_what_to_run(tmp_path: Path) -> None:
    done = mmpr("pair", f"out={tmp_path / 'empty'}")
    assert done.returncode == 2
    assert "mmpr sample" in done.stderr


def test_help_groups_the_commands_and_shows_how_each_is_used() -> None:
    done = mmpr("--help")
    assert done.returncode == 0
    for words in ("Build", "Look", "Check and hand on", "--install-completion", "mmpr settings"):
        assert words in done.stdout
    assert "╭─ Commands" not in done.stdout  # None stands outside the groups.
    for command in COMMANDS - {"settings"}:
        assert f"$ mmpr {command} " in mmpr(command, "-h").stdout, command


def test_help_says_in_words_what_a_flag_takes() -> None:
    for command in sorted(COMMANDS):
        said = mmpr(command, "-h").stdout
        assert "<" not in said.replace("<=", ""), said  # No type of Python, such as <bool>.
    said = mmpr("audit", "-h").stdout
    for words in ("--labels", "FILE", "--show", "N [x>=0]", "SHARE"):
        assert words in said


def test_the_package_is_the_command() -> None:
    command = [sys.executable, "-m", "mmpr_builder", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.stdout.startswith("mmpr_builder ")


def test_quiet_says_nothing_but_errors(tmp_path: Path) -> None:
    config = make_config(tmp_path, 6)
    sample_here(config)
    words = [*PAIRED, f"seeds={tmp_path / 'seeds.jsonl'}", f"out={config.out}"]
    done = mmpr_alone("pair", *words, "--quiet")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    done = mmpr("pair", *words, "pairing.kinds=truncated", "-q")
    assert done.returncode == 6
    assert done.stderr.startswith("no pairs: ")
    done = mmpr("pair", *words, "pairing.knids=format", "-q")
    assert (done.returncode, done.stderr[:7]) == (2, "error: ")


def test_light_commands_import_neither_settings_nor_engines() -> None:
    code = (
        "import sys; from mmpr_builder.cli import main\n"
        "try: main(['--help'])\n"
        "finally: print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "Build" in done.stdout
    for heavy in ("pydantic", "yaml", "pyarrow", "numpy", "tqdm", "mmpr_builder.config"):
        assert f" {heavy} " not in done.stderr, heavy


def test_the_version_is_told() -> None:
    from mmpr_builder import __version__

    done = mmpr("--version")
    assert (done.returncode, done.stdout.strip()) == (0, f"mmpr_builder {__version__}")


def test_settings_lists_every_key() -> None:
    from mmpr_builder.config import valid_keys

    done = mmpr("settings")
    assert done.returncode == 0
    for key in valid_keys():
        assert key in done.stdout


def test_the_job_script_is_the_same_command(tmp_path: Path) -> None:
    script = ROOT / "pipelines" / "build_mmpr.py"
    done = subprocess.run(
        [sys.executable, str(script), "demo", "sampling.temprature=1"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert "sampling.temperature" in done.stderr


@pytest.mark.parametrize("command", ["plan", "build"])
def test_seeds_that_no_pair_can_come_of_end_with_a_code_of_their_own(
    tmp_path: Path, command: str
) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"query": "How many?", "verdict": "3", "scan": "1.png"}\n' * 2)
    done = mmpr(command, f"seeds={rows}", f"out={tmp_path / 'out'}")
    assert done.returncode == 6, done.stderr
    assert "2 unread_columns" in done.stderr
    assert "{image: scan}" in done.stderr


def test_a_run_that_makes_no_pair_says_so_and_fails(tmp_path: Path) -> None:
    config = make_config(tmp_path, 6)
    sample_here(config)
    words = [f"seeds={tmp_path / 'seeds.jsonl'}", f"out={config.out}", "pairing.kinds=truncated"]
    done = mmpr("pair", *PAIRED, *words)
    assert done.returncode == 6, done.stderr
    assert "no pairs: the drops say why" in done.stderr
