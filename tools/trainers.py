"""Installs each trainer into an environment of its own: `python -m tools.trainers [FOLDER]`.

Their requirements exclude each other and ours. An environment that is there is left as it is, but
`--again` makes it anew with the newest versions.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

ENVIRONMENTS: dict[str, tuple[str, ...]] = {
    # Before version 4 lists had another description in Parquet files.
    "datasets36": ("datasets==3.6.*", "pillow"),
    "trl": ("trl", "torch", "torchvision"),
    "llama-factory": ("llamafactory", "torch", "torchvision"),
    "ms-swift": ("ms-swift", "torch", "torchvision"),
    # With what the reward imports of ours, as docs/trainers.md says.
    "verl": (
        *("verl", "torch", "torchvision", "sympy", "latex2sympy2-extended"),
        *("rapidfuzz", "simplemma", "pydantic", "pyyaml"),
    ),
}


def install(folder: Path, name: str) -> None:
    """Make `folder/name`, whole or not at all."""
    uv = shutil.which("uv") or str(Path(sys.executable).with_name("uv"))
    growing = folder / f".{name}"
    shutil.rmtree(growing, ignore_errors=True)
    subprocess.run([uv, "venv", "-q", "--relocatable", "--python", "3.11", growing], check=True)
    # As in `make setup`: beside a local CPU torch only these wheels exist, for CUDA.
    links = os.environ.get("PIP_FIND_LINKS", "").split()
    how = [word for link in links for word in ("--find-links", link)]
    overrides = growing / "overrides.txt"
    if links:
        overrides.write_text("".join(f"{n}; sys_platform == 'never'\n" for n in _NO_CPU_WHEEL))
        how += ["--overrides", str(overrides)]
    else:
        how += ["--torch-backend", "cpu"]
    python = growing / "bin" / "python"
    subprocess.run(
        [uv, "pip", "install", "-q", "--python", python, *how, *ENVIRONMENTS[name]], check=True
    )
    if links and "torch" in ENVIRONMENTS[name]:
        site = next((growing / "lib").glob("python*")) / "site-packages"
        shutil.copy(Path(__file__).with_name("torchvision_cpu.py"), site / f"{_SHIM}.py")
        (site / f"{_SHIM}.pth").write_text(f"import {_SHIM}\n")
    growing.rename(folder / name)


_NO_CPU_WHEEL = ("torchaudio", "torchcodec")
_SHIM = "mmpr_torchvision_cpu"


def main() -> None:
    """Install what is missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", default=".trainers", type=Path)
    parser.add_argument("--again", action="store_true", help="make all of them anew")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    for name in ENVIRONMENTS:
        if given.again:
            shutil.rmtree(given.folder / name, ignore_errors=True)
        if not (given.folder / name).exists():
            print(f"installing {name} …", file=sys.stderr)
            install(given.folder, name)


if __name__ == "__main__":
    main()
