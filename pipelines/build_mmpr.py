"""The main job as a script, for `ray job submit … -- python pipelines/build_mmpr.py RECIPE …`.

The same as `mmpr build`: RECIPE.yaml and key=value overrides. Paths must be reachable from the
cluster's nodes: absolute paths on shared storage, or URLs such as s3://bucket/build. `make submit`
says in MMPR_SUBMITTED_FROM where it was typed: a relative `out` starts there.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    # In a job's working directory the package lies beside this folder and need not be installed.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from mmpr_builder.cli import main

    main(["build", *sys.argv[1:]])
