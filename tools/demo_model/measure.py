"""Measure the demo model: ``python -m tools.demo_model.measure [--model DIR]``.

Scenes of the evaluation split, questions with a truth, the project's own templates, the real
engine. Pairs depend on how often a response is right at temperature 1.0, how many queries get
right *and* wrong ones, and how many responses lack an answer. The same questions without the
picture show how much of it is sight. Of descriptions, the facts that are wrong are counted. It ends
with status 1 where the model is outside `BOUNDS`, in which there is something to pair and to learn.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mmpr_builder.demo import model_path
from mmpr_builder.demo.drawing import draw
from mmpr_builder.demo.questions import ask
from mmpr_builder.demo.wording import Question
from mmpr_builder.demo.world import Scene, make_scene
from mmpr_builder.records import Style
from tools.demo_model.card import Figures, write_card
from tools.demo_model.corpus import render
from tools.demo_model.facts import Facts, check

SEED = 7_000_001
DESCRIPTION_SEED = 7_000_002  # none of the scenes that questions are asked about
MAX_TOKENS = 256
_LAST_ANSWER: dict[str, re.Pattern[str]] = {
    "final_answer": re.compile(r"(?:Final answer:|最终答案：)[ ]*(.+?)\s*$"),
    "boxed": re.compile(r"\\boxed\{([^{}]*)\}\s*$"),
    "think_boxed": re.compile(r"</think>\s*\\boxed\{([^{}]*)\}\s*$"),
}
#: What a demo model has to be: the name of a figure, how it is found, the least and the most.
BOUNDS: tuple[tuple[str, Callable[[Figures], float], float, float], ...] = (
    ("right at temperature 1.0", lambda f: f.accuracy, 0.45, 0.80),
    ("right when greedy", lambda f: f.accuracy_greedy, 0.0, 0.85),
    ("lost when the picture is withheld", lambda f: f.accuracy - f.accuracy_blind, 0.25, 1.0),
    ("queries with both outcomes", lambda f: f.both_outcomes, 0.5, 1.0),
    ("responses without a final answer", lambda f: f.no_answer, 0.0, 0.05),
    ("wrong facts at temperature 1.0", lambda f: f.wrong_facts, 0.10, 0.25),
    ("wrong facts when greedy", lambda f: f.wrong_facts_greedy, 0.05, 0.15),
)


@dataclass(frozen=True)
class Query:
    """One question of the evaluation split."""

    scene: Scene
    question: Question


def is_right(text: str, question: Question, style: Style) -> bool:
    """Whether a response ends in the truth, exactly."""
    return answer_of(text, style) == question.answer


def answer_of(text: str, style: Style) -> str | None:
    """The final answer that a response states, or None."""
    found = _LAST_ANSWER[style].search(text)
    return found.group(1) if found else None


def measure(model: Path, *, queries: int = 256, n: int = 8, seed: int = SEED) -> Figures:
    """Start the engine on a model folder and measure it; two minutes on two cores."""
    asked = []
    for index in range(queries):
        scene = make_scene(seed, index, "eval")
        asked.append(Query(scene, ask(scene, seed, index)))
    sample = _open_engine(model)
    texts, lengths = sample(asked, "final_answer", n, 1.0, True)
    right = _marks(texts, asked, "final_answer")
    blind, _ = sample(asked, "final_answer", n, 1.0, False)
    greedy, _ = sample(asked, "final_answer", 1, 0.0, True)
    boxed, _ = sample(asked, "boxed", 2, 1.0, True)
    think, _ = sample(asked, "think_boxed", 2, 1.0, True)
    answers = [answer_of(text, "final_answer") for group in texts for text in group]
    scenes = [make_scene(DESCRIPTION_SEED, index, "eval") for index in range(queries)]
    opened = [
        Query(scene, ask(scene, DESCRIPTION_SEED, index, open_share=1.0))
        for index, scene in enumerate(scenes)
    ]
    told, _ = sample(opened, "open", 2, 1.0, True)
    told_greedy, _ = sample(opened, "open", 1, 0.0, True)
    told_blind, _ = sample(opened, "open", 1, 1.0, False)
    greedy_facts = _facts(told_greedy, opened)
    return Figures(
        queries=queries,
        n=n,
        seed=seed,
        accuracy=_mean(mark for marks in right for mark in marks),
        both_outcomes=_mean(0 < sum(marks) < len(marks) for marks in right),
        no_answer=_mean(answer is None for answer in answers),
        accuracy_blind=_accuracy(blind, asked, "final_answer"),
        accuracy_greedy=_accuracy(greedy, asked, "final_answer"),
        accuracy_boxed=_accuracy(boxed, asked, "boxed"),
        accuracy_think_boxed=_accuracy(think, asked, "think_boxed"),
        response_tokens=_mean(lengths),
        wrong_facts=_facts(told, opened).share,
        wrong_facts_greedy=greedy_facts.share,
        wrong_facts_blind=_facts(told_blind, opened).share,
        facts_named=greedy_facts.named / queries,
        by_family=_by(right, [query.question.family for query in asked]),
        by_language=_by(right, [query.question.language for query in asked]),
    )


def outside(figures: Figures) -> list[str]:
    """What is outside `BOUNDS`, a sentence each."""
    found = ((name, value(figures), low, high) for name, value, low, high in BOUNDS)
    return [
        f"{name}: {share:.1%}, wanted {low:.0%} to {high:.0%}"
        for name, share, low, high in found
        if not low <= share <= high
    ]


_Texts = list[list[str]]
_Sample = Callable[[list[Query], Style, int, float, bool], tuple[_Texts, list[int]]]


def _open_engine(model: Path) -> _Sample:
    """Load the model into vLLM; a function that samples responses to queries with it."""
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "2")  # GiB
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    from vllm import LLM, SamplingParams

    # Seeded sampling and chunked prefill together end the CPU engine; a prompt has ~150 tokens.
    engine = LLM(
        str(model),
        enforce_eager=True,
        enable_chunked_prefill=False,
        max_model_len=2048,
        max_num_batched_tokens=4096,
        max_num_seqs=128,
        limit_mm_per_prompt={"image": 1},
        gpu_memory_utilization=0.3,
    )
    tokenizer = engine.get_tokenizer()

    def sample(
        queries: list[Query], style: Style, n: int, temperature: float, show: bool
    ) -> tuple[_Texts, list[int]]:
        prompts = [_prompt(query, style, tokenizer, show=show) for query in queries]
        settings = [
            SamplingParams(n=n, temperature=temperature, max_tokens=MAX_TOKENS, seed=1000 * index)
            for index in range(len(queries))
        ]
        results = engine.generate(prompts, settings, use_tqdm=False)
        texts = [[output.text for output in result.outputs] for result in results]
        return texts, [len(o.token_ids) for result in results for o in result.outputs]

    return sample


def _prompt(query: Query, style: Style, tokenizer: Any, *, show: bool) -> dict[str, Any]:
    content = [{"type": "text", "text": render(query.question, style)}]
    if show:
        content.insert(0, {"type": "image"})
    chat = [{"role": "user", "content": content}]
    prompt = {"prompt": tokenizer.apply_chat_template(
        chat, tokenize=False, add_generation_prompt=True
    )}  # fmt: skip
    return {**prompt, "multi_modal_data": {"image": draw(query.scene)}} if show else prompt


def _marks(texts: _Texts, queries: list[Query], style: Style) -> list[list[bool]]:
    return [
        [is_right(text, query.question, style) for text in group]
        for group, query in zip(texts, queries, strict=True)
    ]


def _accuracy(texts: _Texts, queries: list[Query], style: Style) -> float:
    return _mean(mark for marks in _marks(texts, queries, style) for mark in marks)


def _facts(texts: _Texts, queries: list[Query]) -> Facts:
    """The facts of all the descriptions together."""
    found = [
        check(text, query.scene)
        for group, query in zip(texts, queries, strict=True)
        for text in group
    ]
    return Facts(sum(one.named for one in found), sum(one.wrong for one in found))


def _by(right: list[list[bool]], names: list[str]) -> dict[str, float]:
    groups: dict[str, list[bool]] = defaultdict(list)
    for marks, name in zip(right, names, strict=True):
        groups[name].extend(marks)
    return {name: _mean(groups[name]) for name in sorted(groups)}


def _mean(values: Iterable[float]) -> float:
    numbers = list(values)
    return sum(numbers) / len(numbers)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Measure the demo model on fresh questions.")
    parser.add_argument("--model", type=Path, default=model_path(), help="default: the shipped one")
    parser.add_argument("--queries", type=int, default=256)
    parser.add_argument("--n", type=int, default=8, help="responses per query")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--card", action="store_true", help="also write the card, DIR/README.md")
    args = parser.parse_args()
    figures = measure(args.model, queries=args.queries, n=args.n, seed=args.seed)
    print(json.dumps(asdict(figures), indent=2, ensure_ascii=False))
    if args.card:
        print(write_card(args.model, figures))
    if problems := outside(figures):
        sys.exit("the model is not as a demo model has to be:\n" + "\n".join(problems))


if __name__ == "__main__":
    main()
