"""The examples for Kubernetes and Slurm say what their schedulers, and this package, understand."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from mmpr_builder.config import load_config

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "pipelines" / "cluster"
SLURM = FOLDER / "slurm.sh"
RAYJOB = yaml.safe_load((FOLDER / "kuberay.yaml").read_text(encoding="utf-8"))

# KubeRay's API reference for ray.io/v1 (v1.5): the fields that may stand where, `!` = required.
FIELDS = {
    "job": "entrypoint runtimeEnvYAML jobId submissionMode entrypointResources entrypointNumCpus"
    " entrypointNumGpus ttlSecondsAfterFinished shutdownAfterJobFinishes suspend backoffLimit"
    " activeDeadlineSeconds rayClusterSpec! submitterPodTemplate submitterConfig metadata"
    " clusterSelector managedBy deletionStrategy",
    "cluster": "rayVersion headGroupSpec! workerGroupSpecs enableInTreeAutoscaling authOptions"
    " autoscalerOptions gcsFaultToleranceOptions headServiceAnnotations suspend managedBy",
    "head": "template! rayStartParams serviceType headService enableIngress",
    "worker": "template! groupName! minReplicas! maxReplicas! replicas rayStartParams suspend"
    " scaleStrategy numOfHosts idleTimeoutSeconds",
}


def check_fields(table: dict[str, Any], what: str) -> dict[str, Any]:
    names = FIELDS[what].split()
    allowed = {name.rstrip("!") for name in names}
    assert set(table) <= allowed, f"{what}: unknown {set(table) - allowed}"
    missing = {name[:-1] for name in names if name.endswith("!")} - set(table)
    assert not missing, f"{what}: {missing}"
    return table


def version(package: str) -> str:
    pins = (ROOT / "constraints-cuda.txt").read_text(encoding="utf-8")
    found = re.search(rf"^{package}==(\S+)", pins, flags=re.M)
    assert found, package
    return found[1]


def test_the_rayjob_has_the_fields_that_kuberay_knows() -> None:
    assert (RAYJOB["apiVersion"], RAYJOB["kind"]) == ("ray.io/v1", "RayJob")
    assert RAYJOB["metadata"]["name"]
    cluster = check_fields(check_fields(RAYJOB["spec"], "job")["rayClusterSpec"], "cluster")
    assert cluster["authOptions"] == {"mode": "token"}
    assert cluster["rayVersion"] == version("ray")
    for group, what in [
        (cluster["headGroupSpec"], "head"),
        *((worker, "worker") for worker in cluster["workerGroupSpecs"]),
    ]:
        check_fields(group, what)
        check_pod(group["template"]["spec"])
        params = group["rayStartParams"]
        assert all(isinstance(value, str) for value in params.values()), "KubeRay wants strings"


def check_pod(pod: dict[str, Any]) -> None:
    """Volumes that are mounted exist, limits are what is requested, the image is one for all."""
    volumes = {volume["name"] for volume in pod["volumes"]}
    for container in pod["containers"]:
        assert container["name"]
        assert container["image"] == "REGISTRY/mmpr-builder:0.1.0"
        assert {mount["name"] for mount in container["volumeMounts"]} == volumes
        assert container["resources"]["limits"] == container["resources"]["requests"]


def test_the_rayjob_runs_a_command_that_the_package_takes() -> None:
    python, script, recipe, *settings = shlex.split(RAYJOB["spec"]["entrypoint"])
    assert (python, recipe) == ("python", "/shared/recipes/mine.yaml")
    assert script == "/opt/mmpr/pipelines/build_mmpr.py"
    assert load_config(None, settings).distributed.wait_s == 1800
    env = yaml.safe_load(RAYJOB["spec"]["runtimeEnvYAML"])["env_vars"]
    assert int(env["RAY_JOB_STOP_WAIT_TIME_S"]) > 20
    assert all(isinstance(value, str) for value in env.values())


def test_the_image_has_the_versions_that_are_tested() -> None:
    text = (FOLDER / "Dockerfile").read_text(encoding="utf-8")
    assert f"FROM rayproject/ray:{version('ray')}-py311" in text
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    for extra in re.findall(r'"\.\[(.*)\]"', text)[0].split(","):
        assert extra in extras["project"]["optional-dependencies"]
    assert "-c constraints-cuda.txt" in text


def test_the_image_gets_what_the_package_is_made_of_and_nothing_else_of_the_folder() -> None:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]
    wheel = wheel["build"]["targets"]["wheel"]
    made_of = {*wheel["packages"], *wheel["force-include"], "constraints-cuda.txt"}
    assert rules[0] == "*"
    assert {rule[1:] for rule in rules if rule[0] == "!"} == made_of | {
        *("pyproject.toml", "README.md", "LICENSE")
    }


def test_the_slurm_script_is_one() -> None:
    subprocess.run(["bash", "-n", str(SLURM)], check=True)
    text = SLURM.read_text(encoding="utf-8")
    options = dict(re.findall(r"^#SBATCH --([a-z-]+)=?(.*)$", text, flags=re.M))
    assert {"nodes", "gpus-per-node", "time", "signal", "requeue"} <= options.keys()
    assert options["signal"].startswith("B:USR1@"), "to the script, which hands it on"
    assert int(options["signal"].split("@")[1]) > 60, "seconds to write finished rows"
    assert text.index("#SBATCH") < text.index("set -euo pipefail"), "Slurm reads no further"


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="no shellcheck here")
def test_shellcheck_finds_nothing_in_the_slurm_script() -> None:
    subprocess.run(["shellcheck", str(SLURM)], check=True)


TOOL = """#!{python}
import json, os, sys
words = sys.argv[1:]
job = words[words.index("--working-dir") + 1] if "--working-dir" in words else "none"
found = sorted(os.path.join(at, n)[len(job) + 1 :] for at, _, ns in os.walk(job) for n in ns)
json.dump([words, found], open("called.json", "w"))
"""


def called(folder: Path, target: str, *words: str) -> tuple[list[str], list[str]]:
    """(arguments of the tool that `make` calls, the files that a job would get)."""
    done = subprocess.run(
        ["make", "-o", "setup", target, "BIN=bin", *words],
        cwd=folder, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    arguments, files = json.loads((folder / "called.json").read_text())
    return arguments, files


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with this Makefile, tools that note how they are called, and private files."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    planted = ["mmpr_builder/a.py", "mmpr_builder/__pycache__/a.pyc", "pipelines/demo.yaml"]
    planted += ["prompts/p.txt", ".env", "my/secret.jsonl", "my/prompts/q.txt", "my recipes/r.yaml"]
    for name in planted:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/python").symlink_to(sys.executable)
    for name in ("ray", "mmpr"):
        (tmp_path / "bin" / name).write_text(TOOL.replace("{python}", sys.executable))
        (tmp_path / "bin" / name).chmod(0o755)
    return tmp_path


def test_a_job_gets_what_it_needs_and_nothing_else_of_the_folder(checkout: Path) -> None:
    words = ["RECIPE=my recipes/r.yaml", "WITH=my/prompts", "ADDRESS=http://head:1;touch hacked"]
    arguments, files = called(
        checkout, "submit", *words, "ARGS=out='s3://b/a b' name='$(touch hacked)'"
    )
    needed = ["mmpr_builder/a.py", "my recipes/r.yaml", "my/prompts/q.txt"]
    assert files == [*needed, "pipelines/demo.yaml", "prompts/p.txt"]
    assert arguments[arguments.index("--address") + 1] == "http://head:1;touch hacked"
    assert arguments[-4:] == [
        "pipelines/build_mmpr.py", "my recipes/r.yaml", "out=s3://b/a b", "name=$(touch hacked)"
    ]  # fmt: skip
    assert not (checkout / "hacked").exists()


def test_words_of_a_build_are_handed_on_as_they_are(checkout: Path) -> None:
    words = [
        "RECIPE=my recipes/r.yaml",
        "ARGS=out='a b' name=`touch hacked`;x seeds=* '$(shell touch hacked)$x'",
    ]
    arguments, _ = called(checkout, "build-mmpr", *words)
    assert arguments == [
        "build",
        "my recipes/r.yaml",
        "out=a b",
        "name=`touch",
        "hacked`;x",
        "seeds=*",
        "$(shell touch hacked)$x",
    ]
    assert not (checkout / "hacked").exists()


def test_a_job_without_a_file_that_it_needs_is_not_submitted(checkout: Path) -> None:
    with pytest.raises(AssertionError, match="my/promts: no such file"):
        called(checkout, "submit", "RECIPE=my recipes/r.yaml", "WITH=my/promts")
    assert not (checkout / "called.json").exists()
