"""Open questions: a judge that sees the pictures compares what was sampled, two texts at a time.

    rubric                    "1. Says that the dog is on the left. 2. …"     once for a question
    A: this one  B: that one  -> "A"  }  both say so: this one is better
    A: that one  B: this one  -> "B"  }

The texts stand in an order drawn by hash: each response meets the next one, and its own image-free
continuations; no circle can come of that. The judge is a `Sampler`: the engine itself while it is
loaded, or a server. What was written is data for it, between marks that its writer cannot know.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import replace
from itertools import islice, pairwise, zip_longest

from mmpr_builder.config import Config, find_shipped
from mmpr_builder.errors import RowError
from mmpr_builder.io.tables import storable
from mmpr_builder.pairing.candidates import normal, usable_continuations
from mmpr_builder.pairing.verdicts import NO_TRUTH, with_true_ends
from mmpr_builder.prompts import CONTROL, filled
from mmpr_builder.records import IMAGE_PLACEHOLDER, Comparison, Rollout, content_id
from mmpr_builder.sampling.protocol import Request, Sample, Sampler
from mmpr_builder.sampling.revisits import together

RUBRIC_TOKENS = 512
"""Of a rubric beside `scoring.judge.max_tokens`, which leaves room for a thought."""
_KEPT = 200  # Characters of a reply: its end, where the word stands.


async def compared(request: Request, done: Rollout, config: Config, judge: Sampler) -> Rollout:
    """`done`, whose responses have their comparisons; none where there are no two texts to compare,
    or no rubric. `request` has the pictures. A reply that `judge` refuses is ""."""
    settings = config.scoring.judge
    texts = [] if CONTROL.search(done.prompt) else to_compare(done, settings.open)
    if not texts or (config.sampling.engine == "replay" and settings.url is None):
        return done
    asked = replace(request, n=1, temperature=0.0, top_p=1.0, top_k=0, logprobs=False)

    async def reply(name: str, more: int = 0, **values: str) -> Sample:
        prompt, longest = shown(name, {"prompt": done.prompt, **values}), settings.max_tokens + more
        one = replace(asked, prompt=prompt, max_tokens=longest, one_by_one=False, memo={})
        try:
            async with contextlib.aclosing(judge.sample(one)) as stream:
                async for sample in stream:
                    return sample
        except RowError:
            pass
        return Sample(0, "", 0, "stop", 0)

    first = await reply("rubric", RUBRIC_TOKENS)
    rubric = first.text.rpartition("</think>")[2].strip()
    if first.finish_reason != "stop" or not usable_text(rubric):
        return done

    async def both(number: int, index: int, other: str) -> Comparison:
        pair = done.responses[index].text, other
        orders = (pair, pair[::-1])
        said = await together(reply("answers", rubric=rubric, a=a, b=b) for a, b in orders)
        tokens = sum(one.tokens for one in said) + (0 if number else first.tokens)
        # One that was cut has no end.
        ends = [one.text[-_KEPT:] + "…" * (one.finish_reason != "stop") for one in said]
        return Comparison(content_id(other), ends[0], ends[1], rubric, tokens)

    found = list(done.responses)
    made = await together(both(number, *text) for number, text in enumerate(texts))
    for (index, _), one in zip(texts, made, strict=True):
        found[index] = replace(found[index], compared=(*found[index].compared, one))
    return replace(done, responses=tuple(found))


def to_compare(rollout: Rollout, most: int) -> list[tuple[int, str]]:
    """(index of a response, another text), `most` at most; neighbours and continuations in turn."""
    responses = [with_true_ends(response) for response in rollout.responses]
    first: dict[str, int] = {}
    for index, response in enumerate(responses):
        if response.finish_reason == "stop" and usable_text(response.text):
            first.setdefault(normal(response.text), index)
    order = sorted(first, key=lambda text: content_id(rollout.seed.id, text))
    own = [
        (first[text], c.prefix + c.text)
        for text in order
        for c in usable_continuations(rollout.seed, responses[first[text]], NO_TRUTH)
        if usable_text(c.prefix + c.text)
    ]
    neighbours = ((first[a], responses[first[b]].text) for a, b in pairwise(order))
    turns = (one for turn in zip_longest(neighbours, own) for one in turn if one is not None)
    return list(islice(turns, most))


def usable_text(text: str) -> bool:
    """Whether a text may stand in a judge's prompt: no picture's place, no control token of a chat,
    which servers obey wherever it stands."""
    return bool(text.strip()) and IMAGE_PLACEHOLDER not in text and not CONTROL.search(text)


def most_tokens(config: Config) -> int:
    """Tokens that a judge may write about one question."""
    judge = config.scoring.judge
    return RUBRIC_TOKENS + judge.max_tokens * (1 + 2 * judge.open)


def shown(name: str, values: Mapping[str, str]) -> str:
    """What a judge is asked; no value can hold the mark around it, which is a hash of them all."""
    path = find_shipped("prompts", f"rank_{name}_en", ".txt")
    assert path is not None
    fence = content_id(*values.values())[:12]
    text = path.read_text(encoding="utf-8").strip()
    return storable(filled(text, {**values, "fence": fence}))
