"""The embedded default: a small world of pictures, and a small model that really sees them.

world       scenes: grids of coloured shapes, bar charts; which split each belongs to
drawing     the picture of a scene
wording     the words for what a scene holds, in English and Chinese
questions   questions on a scene and their truths (grid_questions, chart_questions)
seeds       seeds of this world, written in the format that anybody's seeds have
model/      the trained model; `tools/demo_model/` in a checkout trains it
"""

from __future__ import annotations

from pathlib import Path

from mmpr_builder.demo.seeds import write_seeds


def model_path() -> Path:
    """The folder of the shipped model, as vLLM and transformers load it."""
    return Path(__file__).parent / "model"


__all__ = ["model_path", "write_seeds"]
