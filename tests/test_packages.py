"""Packages are checked when they are installed, and can be looked up for known holes."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from tools import audit_deps

ROOT = Path(__file__).parents[1]
PINS = ["constraints-cpu.txt", "constraints-cuda.txt"]


@pytest.mark.parametrize("name", PINS)
def test_every_package_has_a_version_and_hashes_of_its_files(name: str) -> None:
    """But torchvision, of which PyTorch has builds of its own under the same version."""
    text = (ROOT / name).read_text(encoding="utf-8")
    entries = re.split(r"\n(?=\S)", text)
    pins = [entry for entry in entries if not entry.startswith("#")]
    assert len(pins) > 200
    bare = [entry.split("==")[0] for entry in pins if "--hash=sha256:" not in entry]
    assert all(re.match(r"[\w.-]+==\S+", entry) for entry in pins)
    assert set(bare) <= {"torchvision"}


HOLE = {"name": "a", "version": "1", "vulns": [{"id": "CVE-1", "fix_versions": ["2"]}]}
SOUND = {"name": "b", "version": "1", "vulns": []}
UNKNOWN = {"name": "c", "skip_reason": "not found on PyPI"}

AUDITS: dict[str, tuple[Any, int, str]] = {
    "a hole is named": ([HOLE, SOUND, UNKNOWN], 1, "a 1: CVE-1, mended by 2"),
    "none is found": ([SOUND, UNKNOWN], 0, "no known vulnerability in 1 packages"),
    "what is not looked up is named": ([SOUND, UNKNOWN], 0, "not looked up, 1 of 2: c"),
    "a service that knows nothing is no all-clear": ([UNKNOWN], 2, "so nothing is known"),
    "nor is one that is not there": (None, 2, "could not be asked, so nothing is known: refused"),
}


@pytest.mark.parametrize(("found", "code", "said"), AUDITS.values(), ids=AUDITS)
def test_an_audit(
    found: Any, code: int, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    uv = tmp_path / "uv"
    audit = json.dumps({"dependencies": found})
    told = f"print({audit!r})" if found else "sys.exit('refused')"
    uv.write_text(f"#!{sys.executable}\nimport sys\n{told}\n")
    uv.chmod(0o700)
    assert audit_deps.main(str(uv), str(tmp_path)) == code
    assert said in capsys.readouterr().out
