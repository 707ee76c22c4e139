"""What flows through the pipeline, one frozen record per step.

    Seed      question, images, maybe truths                    seeds/
    Rollout   a seed with its prompt and all its responses      sampling/
    Asked     what a response is judged by                      pairing/
    Verdict   what scoring says of one response                 scoring/
    Pair      chosen / rejected                                 pairing/
    Drop      an item that ends here, with the reason           any step

A field means the same thing everywhere: `answer` is what a response says, `answers` are the
accepted truths of a seed, `tokens` counts generated tokens.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from html import escape
from typing import Literal

Outcome = Literal["correct", "incorrect", "no_answer", "undecided"]
Style = Literal["final_answer", "boxed", "think_boxed", "open"]
Language = Literal["en", "zh"]
Kind = Literal["correctness", "format", "truncated", "dropout_ntp", "step", "judged"]

IMAGE_PLACEHOLDER = "<image>"
"""Marks in a question where an image stands (the placeholder of MMPR's released data)."""


@dataclass(frozen=True, slots=True)
class ImageRef:
    """Where the bytes of one image are: a file path, any fsspec URL, or for an image embedded in a
    table its row, column and index in a list inside `uri`."""

    uri: str
    row: int | None = None
    column: str | None = None
    index: int | None = None


@dataclass(frozen=True, slots=True)
class Seed:
    """One question to sample responses for.

    `question` keeps exactly one `<image>` per image, known answer-instruction suffixes stripped.
    `answers` are the accepted truths, best first; empty means the truth is not known.
    `choices` are the option texts for A, B, C, …; empty for a free answer.
    `scorer` is the scorer to use for it ("auto" unless the recipe or the source fixes one).
    """

    id: str
    question: str
    images: tuple[ImageRef, ...] = ()
    answers: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    source: str = ""
    language: Language = "en"
    scorer: str = "auto"
    origin: str = ""
    """Where it was read, for messages: `seeds.jsonl:118`."""
    truth_source: Literal["given", "majority", "no_majority", "majority_blind"] = field(
        default="given", repr=False
    )
    """Where `answers` come from, or why a majority is none; found in pairing, not stored."""

    @property
    def has_truth(self) -> bool:
        return bool(self.answers)


@dataclass(frozen=True, slots=True)
class Template:
    """A prompt text with `{question}` in it, and the style in which it asks for the answer.

    `style` "open" asks for no answer format at all (questions without a truth).
    """

    name: str
    text: str
    style: Style = "final_answer"
    language: Language = "en"


@dataclass(frozen=True, slots=True)
class Trace:
    """What log-probabilities, in nats, a generated text has (`sampling.logprobs=tokens`).

    `token_ids` are the generated tokens with their stop token, and `logprob` the sum of their raw
    log-probabilities. `reference` is the sum over the tokens that a trainer makes of the whole text
    and the end of its turn, behind the prompt with its images; None where `missing` says why. `by`
    tells model, adapter and chat template apart (`engines.models.reference_of`).
    """

    token_ids: tuple[int, ...]
    logprob: float
    reference: float | None = None
    missing: str = ""
    by: str = ""


@dataclass(frozen=True, slots=True)
class Continuation:
    """A DropoutNTP continuation: the first `keep` of a response, continued by the same model.

    The rejected text is `prefix + text`. `image` says whether the image was shown (it is not, by
    default). `tokens` counts the newly generated tokens only, `prefix_tokens` those of the prefix
    where the engine cut by tokens (None where only text is known). Of `Response.with_image` a
    `keep` from 1 on counts the steps that were kept.
    """

    prefix: str
    text: str
    tokens: int
    finish_reason: str
    seed: int
    keep: float
    image: bool = False
    prefix_tokens: int | None = None
    trace: Trace | None = None
    """Of its own tokens, as it was shown; its `reference` is that of prefix and text together."""
    verdict: Verdict | None = None
    """What scoring says of `prefix + text`, of those with the image; not stored."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a judge replied on a response and another text of its seed, known by its `content_id`:
    the end of the reply where the response was shown as A (`first`), and where as B; "" without
    one. `tokens` are all that the judge wrote for it."""

    other: str
    first: str
    second: str
    rubric: str
    tokens: int

    @property
    def outcome(self) -> str:
        """The response is the "better" or the "worse" text if both orders say so, in one of the
        words asked for, behind a thought if any; "tie", "orders_differ", "malformed" decide
        nothing."""
        ends = (reply.rpartition("</think>")[2].strip() for reply in (self.first, self.second))
        said = " ".join(ends)
        if not re.fullmatch("(A|B|TIE) (A|B|TIE)", said):
            return "malformed"
        return {"A B": "better", "B A": "worse", "TIE TIE": "tie"}.get(said, "orders_differ")


@dataclass(frozen=True, slots=True)
class Response:
    """One sampled response. `finish_reason` is the engine's: "stop", "length", "abort"."""

    text: str
    tokens: int
    finish_reason: str
    seed: int
    logprob: float | None = None
    """Mean log-probability per generated token, in nats, when it was asked for."""
    continuation: Continuation | None = None
    further: tuple[Continuation, ...] = ()
    """More continuations of it, each at another ratio, where `dropout.keep` names several."""
    with_image: tuple[Continuation, ...] = ()
    """Continuations that saw the image: from its middle, from the ends of its steps (`steps`)."""
    trace: Trace | None = None
    compared: tuple[Comparison, ...] = ()
    """With other responses and its continuations, by a judge (`scoring.judge.open`)."""
    first_wrong: int | None = None
    """Steps before the first wrong one, as scoring finds it; not stored."""

    @property
    def continuations(self) -> tuple[Continuation, ...]:
        """All of them, by rising ratio."""
        first = () if self.continuation is None else (self.continuation,)
        return (*first, *self.further)

    @property
    def traces(self) -> tuple[Trace | None, ...]:
        """Its own, and those of its continuations."""
        return (self.trace, *(continuation.trace for continuation in self.continuations))

    def with_continuations(self, continuations: Iterable[Continuation]) -> Response:
        """The same response with these continuations and no others."""
        these = tuple(continuations)
        return replace(self, continuation=these[0] if these else None, further=these[1:])


@dataclass(frozen=True, slots=True)
class Rollout:
    """A seed with its prompt and all its responses: one row of `rollouts/*.parquet`.

    A seed that could not be sampled (say, its image does not open) has no responses and
    `error` = (reason, detail).
    """

    seed: Seed
    prompt: str
    template: str
    style: Style
    model: str
    image_sha256: tuple[str, ...] = ()
    responses: tuple[Response, ...] = ()
    prompt_tokens: int = 0
    error: tuple[str, str] | None = None
    index: int = 0
    """Position of the seed in the build's input order; outputs are sorted by it."""
    stop: str = ""
    """Why there are no more responses: "enough" for the pairs wanted, "hopeless" (more would hardly
    give one), "n" (all that were asked for); empty with an error, and in rollouts of old versions.
    """
    blind: tuple[Response, ...] = ()
    """Responses to the same prompt without its images (`sampling.blind`); in no pair."""


def generated_tokens(rollout: Rollout) -> int:
    """All that was generated for a seed: responses, continuations, samples without images, what a
    judge said."""
    continued = sum(c.tokens for r in rollout.responses for c in (*r.continuations, *r.with_image))
    continued += sum(c.tokens for r in rollout.responses for c in r.compared)
    return continued + sum(r.tokens for r in (*rollout.responses, *rollout.blind))


@dataclass(frozen=True, slots=True)
class Verdict:
    """What scoring says of one response.

    "undecided" (a time-out, input screened out, an unusable truth) is neither right nor wrong and
    belongs on neither side of a pair. `rule` names what decided, `reason` says it in words.
    """

    outcome: Outcome
    answer: str | None = None
    rule: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a verdict is asked about: the accepted answers, and what the comparison depends on.

    `style` says how a whole response marks its final answer; an extracted answer has none.
    """

    golds: tuple[str, ...]
    scorer: str = "auto"
    choices: tuple[str, ...] = ()
    question: str | None = None
    style: Style = "final_answer"


@dataclass(frozen=True, slots=True)
class Pair:
    """One chosen/rejected pair. `chosen` and `rejected` point at responses of the same seed.

    For kind "dropout_ntp" both indices are the same response: chosen is its text, rejected its
    image-free continuation. For kind "step" rejected is its text, chosen its beginning up to the
    first wrong step and a continuation that gets to a right answer. For kind "judged" rejected is
    another response, or a continuation of the chosen one.
    """

    id: str
    seed_id: str
    kind: Kind
    chosen_text: str
    rejected_text: str
    chosen_answer: str | None
    rejected_answer: str | None
    chosen_tokens: int
    rejected_tokens: int
    chosen_index: int
    rejected_index: int
    chosen_finish_reason: str
    rejected_finish_reason: str
    pass_rate: float | None
    """Right responses over decided ones (right + wrong + no answer), smoothed where sampling
    stopped early; None without a truth."""
    n_samples: int
    rng_seed: int = 0
    dropout_keep: float | None = None
    """Of a rejected continuation: the ratio that was kept, which tells continuations apart."""
    shared_steps: int | None = None
    """Of kind "step": the steps that both sides begin with."""
    faithfulness: float | None = None
    """Share of the continuations from the chosen side's middle that get to a right answer; None
    where none were sampled (`steps.faithful`)."""
    blind_pass_rate: float | None = None
    """The pass rate without the images; None where it was not measured (`sampling.blind`)."""
    unbiased_rate: float | None = None
    """The pass rate for means over seeds; not stored."""

    def _repr_html_(self) -> str:
        """Both texts side by side, for notebooks; what a model wrote is text, never markup."""
        cells = ""
        for name in ("chosen", "rejected"):
            answer = getattr(self, f"{name}_answer")
            said = "" if answer is None else f", answer {escape(answer)}"
            cells += (
                '<td style="width:50%;vertical-align:top;text-align:left;white-space:pre-wrap">'
                f"<b>{name}</b> {getattr(self, f'{name}_tokens')} tokens{said}\n"
                f"{escape(getattr(self, f'{name}_text'))}</td>"
            )
        rate = "" if self.pass_rate is None else f", {self.pass_rate:.0%} of {self.n_samples} right"
        caption = f"{escape(self.kind)} · {escape(self.seed_id)}{rate}"
        return f"<table><caption>{caption}</caption><tr>{cells}</tr></table>"


@dataclass(frozen=True, slots=True)
class Drop:
    """An item that goes no further: why, and where. `stage` is the module that dropped it."""

    item_id: str
    stage: str
    reason: str
    detail: str = ""


def content_id(*parts: str) -> str:
    """32 hex digits (128 bits of SHA-256) over length-prefixed parts."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "big"))
        digest.update(data)
    return digest.hexdigest()[:32]


def derived_seed(run_seed: int, *parts: str) -> int:
    """A 32-bit random seed from the run's seed and what it is for, by hash: results do not depend
    on order, and neighbours share no random streams (vLLM gives child i of a request seed + i)."""
    return int(content_id(str(run_seed), *parts)[:8], 16)
