"""Damaged and hostile tables are refused or read, and never end the process.

Each file is broken in the same hundreds of ways: cut, bits turned, bytes of the footer replaced,
four bytes of any place made a huge or a negative number.
"""

from __future__ import annotations

import io
import json
import random
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from mmpr_builder.io.tables import rollouts_to_table
from mmpr_builder.records import Response, Rollout, Seed

HUGE = [b"\xff\xff\xff\x7f", b"\xff\xff\xff\xff", b"\0\0\0\0"]

# In a process of its own, because Arrow followed what such a file said to a segmentation fault.
READ = """
import json, sys
from mmpr_builder.config import SourceConfig
from mmpr_builder.errors import MmprError
from mmpr_builder.io.images import read_bytes
from mmpr_builder.output import read_rollouts
from mmpr_builder.records import Drop
from mmpr_builder.seeds import check_sources, read_seeds

def read(path):
    try:
        if path.endswith("rollouts.parquet"):
            return "read" if list(read_rollouts([path])) else "empty"
        check_sources([SourceConfig(path=path)])
        for item in read_seeds(path):
            for ref in () if isinstance(item, Drop) else item.images:
                try:
                    read_bytes(ref)
                except MmprError:
                    pass
    except MmprError as error:
        return "refused"
    except BaseException as error:
        return repr(error)[:300]
    return "read"

for path in sys.argv[1:]:
    print(json.dumps([path, read(path)]), flush=True)
"""


def table() -> pa.Table:
    picture = io.BytesIO()
    Image.new("RGB", (16, 16)).save(picture, "PNG")
    columns = {
        "id": [f"q{i}" for i in range(40)],
        "question": [f"<image>\nHow many {i}?" for i in range(40)],
        "answer": [str(i) for i in range(40)],
        "image": [{"bytes": picture.getvalue(), "path": None}] * 40,
    }
    return pa.table(columns)


def write_parquet(path: Path) -> None:
    pq.write_table(table(), path, row_group_size=10)


def write_arrow(path: Path) -> None:
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table().schema) as writer:
        writer.write_table(table(), max_chunksize=10)


def write_rollouts(path: Path) -> None:
    def answers(seed: Seed) -> tuple[Response, ...]:
        return tuple(Response(f"Ein Weg – {n}.\nFinal answer: {n}", 5, "stop", n) for n in range(4))

    seeds = [Seed(f"q{i}", f"Wie viele Kreise? {i}", answers=(str(i),)) for i in range(40)]
    rows = [Rollout(s, s.question, "t", "final_answer", "m", responses=answers(s)) for s in seeds]
    pq.write_table(rollouts_to_table(rows), path, row_group_size=10)


def broken(data: bytes, number: int) -> bytes:
    draw, found = random.Random(number), bytearray(data)
    if number % 4 == 0:
        return data[: draw.randrange(len(data))]
    if number % 4 == 1:
        for _ in range(draw.randint(1, 4)):
            found[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    elif number % 4 == 2:
        found[len(data) - draw.randrange(8, min(1500, len(data)))] = draw.randrange(256)
    else:
        place = draw.randrange(len(data) - 8)
        found[place : place + 4] = draw.choice(HUGE)
    return bytes(found)


@pytest.mark.parametrize(
    ("suffix", "write"),
    [
        ("arrow", write_arrow),
        ("parquet", write_parquet),
        ("rollouts.parquet", write_rollouts),
    ],
)
def test_a_damaged_table_never_ends_the_process(tmp_path: Path, suffix: str, write: object) -> None:
    whole = tmp_path / f"whole.{suffix}"
    write(whole)  # type: ignore[operator]
    paths = [whole]
    for number in range(120):
        paths.append(tmp_path / f"{number}.{suffix}")
        paths[-1].write_bytes(broken(whole.read_bytes(), number))
    done = subprocess.run(
        [sys.executable, "-c", READ, *map(str, paths)], capture_output=True, text=True, timeout=600
    )
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, f"ended by {paths[len(found)].name}: {done.stderr[-500:]}"
    assert found[0][1] == "read"
    assert {said for _, said in found} == {"read", "refused"}
