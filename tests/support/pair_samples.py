"""Hand-made rollouts on real image files, shared by the tests of writing and reporting."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from PIL import Image, ImageDraw

from mmpr_builder.config import Config
from mmpr_builder.output import Block, BuildWriter, finish_build, make_block, rejected_ids
from mmpr_builder.pairing import judge_and_pair, read_labels
from mmpr_builder.quality.filters import Findings
from mmpr_builder.records import Continuation, Drop, ImageRef, Response, Rollout, Seed, Verdict


class LastWord:
    """A judge that compares the last word with the truths; "hm" is none, "huh" undecided."""

    def score_response(
        self,
        text: str,
        gold: str | Sequence[str],
        *,
        style: str = "final_answer",
        scorer: str = "auto",
        choices: Sequence[str] | None = None,
        question: str | None = None,
    ) -> Verdict:
        answer = text.split()[-1]
        if answer == "hm":
            return Verdict("no_answer", rule="no_marker")
        if answer == "huh":
            return Verdict("undecided", answer, rule="screened", reason="not a word")
        return Verdict("correct" if answer in gold else "incorrect", answer, rule="last_word")


def picture(path: Path, colour: str, mark: str = "") -> ImageRef:
    image = Image.new("RGB", (96, 72), colour)
    ImageDraw.Draw(image).text((8, 8), mark or path.stem, fill="white")
    image.save(path)
    return ImageRef(str(path))


def make_rollout(
    seed: Seed, texts: Sequence[str], *, index: int = 0, finish: str = "stop"
) -> Rollout:
    responses = tuple(
        Response(text, len(text.split()), finish, 100 + i) for i, text in enumerate(texts)
    )
    return Rollout(
        seed=seed,
        prompt=f"{seed.question}\nEnd with Final answer: …",
        template="final_answer_en",
        style="final_answer",
        model="tiny",
        image_sha256=tuple(
            hashlib.sha256(Path(ref.uri).read_bytes()).hexdigest() for ref in seed.images
        ),
        responses=responses,
        prompt_tokens=40,
        index=index,
    )


def sample_rollouts(folder: Path) -> list[Rollout]:
    """One image, two images inside the text, none, an open question, and three without pairs."""
    folder.mkdir(parents=True, exist_ok=True)
    red, blue = picture(folder / "red.png", "firebrick"), picture(folder / "blue.jpg", "navy")
    one = Seed("one", "<image>\nHow many?", (red,), ("3", "three"), source="grid", origin="a:1")
    two = Seed(
        "two",
        "Is <image> redder than <image> ?",
        (red, blue),
        ("yes",),
        ("yes", "no"),
        source="grid",
    )
    text_only = Seed("none", "What is 1 + 1 < 3 & why?", (), ("2",), source="sums", language="zh")
    open_seed = Seed("open", "<image>\nDescribe the picture.", (blue,), source="grid")
    easy = Seed("easy", "<image>\nHow many?", (red,), ("3",), source="grid")
    described = tuple(
        Response(
            f"A blue wall {i} with a small white label in the corner.",
            11,
            "stop",
            200 + i,
            continuation=Continuation(
                f"A blue wall {i} with a", f" dog {i} on a sofa.", 6, "stop", 300 + i, 0.5
            ),
        )
        for i in range(3)
    )
    failed = make_rollout(Seed("gone", "<image>\n?", (red,), ("3",), source="grid"), [])
    rollouts = [
        make_rollout(one, ["I see 3", "so it is 3", "I see 4", "well hm"]),
        make_rollout(two, ["left is red: yes", "both are dark: no", "hm hm"]),
        make_rollout(text_only, ["one and one is 2", "<b>bold</b> & {{ 7*7 }} so 11"]),
        replace(
            make_rollout(open_seed, []),
            responses=described,
            style="open",
            prompt=open_seed.question,
        ),
        make_rollout(easy, ["three: 3", "clearly 3"]),
        replace(failed, error=("image_missing", "red.png: no such file")),
    ]
    return [replace(rollout, index=i) for i, rollout in enumerate(rollouts)]


def blocks(rollouts: Sequence[Rollout], config: Config, per_block: int = 64) -> Iterator[Block]:
    """Judged and paired by the last word, so many seeds at a time."""
    judge = partial(judge_and_pair, labels=read_labels(config.scoring.labels))
    for start in range(0, len(rollouts), per_block):
        part = rollouts[start : start + per_block]
        findings = Findings()
        judged = [
            (rollout, *judge(rollout, config, LastWord(), findings=findings)) for rollout in part
        ]
        block = make_block(judged, config, rejected_ids(config))
        block.counts.findings.add(findings)
        yield block


def write_build(
    out: Path, rollouts: Sequence[Rollout], config: Config | None = None, *, per_block: int = 64
) -> Config:
    """What the second half of a build does, without Ray: judge, pair, write, finish."""
    config = (config or Config()).model_copy(update={"out": str(out), "name": "sample"})
    unread = [(-1, Drop("a.jsonl:9", "seeds", "image_missing", "b.png"))]
    with BuildWriter(config, unread=unread) as writer:
        for block in blocks(rollouts, config, per_block):
            writer.add(block)
    finish_build(config, writer.counts(), seconds={"pairing": 1.25})
    return config
