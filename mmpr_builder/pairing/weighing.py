"""What a pair adds to the two sides: lengths, and answers that are the same in many questions.

Weighed("correctness", 212, 240, ("yes", "no"))
  -> ("lengths", "correctness", "vqa", "pairs") 1, (…, "chosen") 212, (…, "rejected") 240
     ("answers", "vqa", "yes", "chosen") 1, ("answers", "vqa", "no", "rejected") 1
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from mmpr_builder.config import Config, PairingConfig
from mmpr_builder.pairing.answers import common_answers, is_letter
from mmpr_builder.pairing.candidates import Side
from mmpr_builder.records import Kind, Pair, Seed

Sums = Counter[tuple[str, ...]]
"""See `sums`."""


@dataclass(frozen=True, slots=True)
class Weighed:
    """What a pair puts on the scales. `answers` are chosen and rejected, of the same family (see
    answers.py), or None."""

    kind: Kind
    chosen_tokens: int
    rejected_tokens: int
    answers: tuple[str, str] | None = None

    @property
    def gap(self) -> int:
        """Tokens of the chosen text less those of the rejected one."""
        return self.chosen_tokens - self.rejected_tokens


def weigh(seed: Seed, pair: Pair) -> Weighed:
    """A pair that was made."""
    answers = common_answers(pair.chosen_answer, pair.rejected_answer, len(seed.choices))
    return Weighed(pair.kind, pair.chosen_tokens, pair.rejected_tokens, answers)


def weigh_couple(seed: Seed, couple: tuple[Side, Side]) -> Weighed:
    """Two texts that could become a pair."""
    chosen, rejected = couple
    answers = common_answers(chosen.answer, rejected.answer, len(seed.choices))
    return Weighed(rejected.kind, chosen.tokens, rejected.tokens, answers)


def sums(source: str, pairs: Iterable[Weighed]) -> Sums:
    """Pairs and tokens of both sides by kind, and answers by side, of one source."""
    found: Sums = Counter()
    for pair in pairs:
        cell = ("lengths", pair.kind, source)
        found[(*cell, "pairs")] += 1
        found[(*cell, "chosen")] += pair.chosen_tokens
        found[(*cell, "rejected")] += pair.rejected_tokens
        if pair.answers is not None:
            chosen, rejected = pair.answers
            found["answers", source, chosen, "chosen"] += 1
            found["answers", source, rejected, "rejected"] += 1
    return found


def evenness(config: Config | PairingConfig) -> float | None:
    """The tolerance within which lengths are balanced, as a share; None where they are not."""
    if not isinstance(config, Config) or not config.quality.balance.lengths:
        return None
    return config.quality.balance.tolerance


def is_weighed(config: Config | PairingConfig) -> bool:
    """Whether lengths or answers are controlled, so that what becomes of them is told."""
    policy = config.pairing if isinstance(config, Config) else config
    balance = config.quality.balance if isinstance(config, Config) else None
    return bool(
        policy.max_gap is not None
        or policy.partner == "like_length"
        or (balance is not None and (balance.lengths or balance.answers))
    )


def before_and_after(before: Sums, after: Sums, config: Config) -> dict[str, Any]:
    """What run.json tells of the balance: each kind and source, each family and source.

    `before` is of the pairs as they would have been without any control of lengths or answers;
    `reached` says whether the difference is within the tolerance.
    """
    tolerance = config.quality.balance.tolerance
    cells = sorted({key[1:3] for key in before | after if key[0] == "lengths"})
    lengths: dict[str, Any] = {}
    for kind, source in cells:
        one, other = (_lengths(part, kind, source) for part in (before, after))
        reached = abs(other["mean_gap"]) <= tolerance * other["chosen"]
        found = {"before": one, "after": other, "reached": reached}
        lengths.setdefault(kind, {})[source] = found
    named = sorted({key[1:3] for key in before | after if key[0] == "answers"})
    answers: dict[str, Any] = {}
    for source in sorted({source for source, _ in named}):
        for letters in (False, True):
            names = [name for of, name in named if of == source and is_letter(name) == letters]
            if names:
                one, other = (_answers(part, source, names) for part in (before, after))
                found = {"before": one, "after": other, "reached": other["surplus"] <= tolerance}
                answers.setdefault(source, {})["letters" if letters else "yes_no"] = found
    return {"lengths": lengths, "answers": answers}


def _lengths(part: Sums, kind: str, source: str) -> dict[str, float]:
    """Means in tokens, to a hundredth."""
    n, chosen, rejected = (
        part["lengths", kind, source, name] for name in ("pairs", "chosen", "rejected")
    )
    means = [round(value / max(1, n), 2) for value in (chosen, rejected, chosen - rejected)]
    return {"pairs": n, "chosen": means[0], "rejected": means[1], "mean_gap": means[2]}


def _answers(part: Sums, source: str, names: list[str]) -> dict[str, Any]:
    """`surplus`: the share of the pairs without which each answer would be chosen as often as
    rejected, at the least."""
    sides = {
        name: {side: part["answers", source, name, side] for side in ("chosen", "rejected")}
        for name in names
    }
    pairs = sum(counts["chosen"] for counts in sides.values())
    ahead = sum(max(0, counts["chosen"] - counts["rejected"]) for counts in sides.values())
    return {"pairs": pairs, "surplus": round(ahead / max(1, pairs), 4), "answers": sides}
