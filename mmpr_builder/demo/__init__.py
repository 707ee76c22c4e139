"""The embedded default: a small world of pictures, and a small model that really sees them.

world       scenes: grids of coloured shapes, bar charts; which split each belongs to
drawing     the picture of a scene
wording     the words for what a scene holds, in English and Chinese
questions   questions on a scene and their truths (grid_questions, chart_questions, drafts)
responses   how careful and hasty writers answer: the habits that the model imitates
seedset     seeds of this world, written in the format that anybody's seeds have

tokens      the tokenizer and the chat template
network     the model's size, its processor, the folder it is saved in
corpus      training rows
train       `python -m mmpr_builder.demo.train --out DIR`
measure     `python -m mmpr_builder.demo.measure`: what the model can do, in figures
card        the model card that states them
model/      the shipped model
"""

from __future__ import annotations

from pathlib import Path

from mmpr_builder.demo.seedset import write_seeds


def model_path() -> Path:
    """The folder of the shipped model, as vLLM and transformers load it."""
    return Path(__file__).parent / "model"


__all__ = ["model_path", "write_seeds"]
