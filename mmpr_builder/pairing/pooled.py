"""The rollouts of one seed in several builds, as one.

    build A   model strong, 32 responses to prompt P   \\
    build B   model weak,   16 responses to prompt P    > one seed with 56 responses
    build C   model weak,    8 responses to prompt Q   /

Every response is judged in the style that its own prompt asked for. Both responses of a pair answer
the *same* prompt: A x A, B x B and A x B give pairs with P, C x C with Q.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from itertools import accumulate, chain, islice, pairwise, zip_longest
from typing import Any

from mmpr_builder.config import Config, DropoutConfig, PairingConfig
from mmpr_builder.dropout import wants_continuation
from mmpr_builder.pairing.candidates import normal
from mmpr_builder.pairing.pass_rate import shown_rate
from mmpr_builder.quality.filters import Findings
from mmpr_builder.records import Drop, Pair, Response, Rollout, Verdict


@dataclass(frozen=True, slots=True)
class PooledRollout(Rollout):
    """Rollouts of the same seed; the responses are theirs, one rollout after the other.

    Prompt, template, style and model are those of the first; those of a response are its own
    member's (`member_at`). `settings` has what each member was sampled with, `error` is set where
    none has been sampled, `drop` says why it cannot be judged at all.
    """

    members: tuple[Rollout, ...] = ()
    settings: tuple[Config, ...] = ()
    drop: Drop | None = None

    @property
    def ranges(self) -> list[range]:
        """For each member the indices of its responses."""
        ends = accumulate((len(member.responses) for member in self.members), initial=0)
        return [range(start, end) for start, end in pairwise(ends)]


def pool(members: Sequence[Rollout], settings: Sequence[Config]) -> PooledRollout:
    """One rollout of at least one; seed, index and error are the first one's.

    A member that could not be sampled counts only where all could not.
    """
    first = members[0]
    sampled = [i for i, member in enumerate(members) if member.error is None]
    kept = sampled or range(len(members))
    of = [members[i] for i in kept]
    own: dict[str, Any] = {one.name: getattr(of[0], one.name) for one in fields(Rollout)}
    own |= {
        "seed": first.seed,
        "index": first.index,
        "responses": tuple(chain.from_iterable(member.responses for member in of)),
        "prompt_tokens": sum(member.prompt_tokens for member in of),
        "blind": tuple(chain.from_iterable(member.blind for member in of)),
        "members": tuple(replace(member, seed=first.seed, index=first.index) for member in of),
        "settings": tuple(settings[i] for i in kept),
    }
    return PooledRollout(**own)


def members_of(rollout: Rollout) -> tuple[Rollout, ...]:
    """The rollouts that were pooled; a rollout of one build is its own only one."""
    return rollout.members if isinstance(rollout, PooledRollout) else (rollout,)


def member_at(rollout: PooledRollout, index: int) -> int:
    """Number of the member that a response belongs to."""
    return next(number for number, own in enumerate(rollout.ranges) if index in own)


def models_of(rollout: Rollout) -> list[str]:
    """The model that wrote each response."""
    return [member.model for member in members_of(rollout) for _ in member.responses]


def parts_of(rollout: Rollout, config: Config) -> list[tuple[Rollout, Config, slice]]:
    """Each rollout that was pooled, the settings of its build, and its responses among all; of one
    build itself with `config`."""
    if not isinstance(rollout, PooledRollout):
        return [(rollout, config, slice(None))]
    places = (slice(own.start, own.stop) for own in rollout.ranges)
    return list(zip(rollout.members, rollout.settings, places, strict=True))


def continued_by(
    rollout: Rollout, config: Config
) -> Iterator[tuple[Sequence[Response], DropoutConfig]]:
    """The responses that were to be continued, and how: as the settings of their own build say."""
    for member, of, _ in parts_of(rollout, config):
        if wants_continuation(member.seed, of.dropout):
            yield member.responses, of.dropout


def rate_of(
    rollout: Rollout,
    verdicts: Sequence[Verdict],
    config: Config,
    responses: Sequence[Response] | None = None,
    model: str | None = None,
    rate_by: Callable[..., float | None] = shown_rate,
) -> float | None:
    """The pass rate of a seed, or of one model: the mean of its builds' own rates, weighted by the
    number of responses asked for, as that of those there are depends on chance.

    A build without a decided response does not count. `responses` are the rollout's as pairing may
    use them, by which adaptive sampling decided when to stop; `rate_by` is `pass_rate` or
    `shown_rate`.
    """
    usable = rollout.responses if responses is None else responses
    rates = []
    for member, of, part in parts_of(rollout, config):
        rate = rate_by(rollout.seed, usable[part], verdicts[part], of)
        if rate is not None and model in (None, member.model):
            rates.append((rate, of.sampling.n))
    if len(rates) == 1:
        return rates[0][0]  # Multiplied and divided it would not be the same to the last bit.
    weight = sum(n for _, n in rates)
    return sum(rate * n for rate, n in rates) / weight if weight else None


def rates_by_model(rollout: Rollout, verdicts: Sequence[Verdict]) -> dict[str, float]:
    """Model -> its own pass rate, for pooled seeds that several models answered; else {}."""
    if not isinstance(rollout, PooledRollout) or not verdicts:
        return {}
    models = sorted({member.model for member in rollout.members})
    if len(models) < 2:
        return {}
    rates = {m: rate_of(rollout, verdicts, rollout.settings[0], model=m) for m in models}
    return {model: rate for model, rate in rates.items() if rate is not None}


PairsOf = Callable[[Sequence[int], Findings], tuple[list[Pair], list[Drop]]]
"""Pairs the responses with these indices, and notes what it finds."""


def pair_by_prompt(
    rollout: Rollout, pairs_of: PairsOf, policy: PairingConfig, findings: Findings
) -> tuple[list[Pair], list[Drop]]:
    """The pairs of the responses to each prompt, which take turns up to `max_per_seed`; no two have
    the same texts. Without any pair there is one `Drop`."""
    groups = _prompts_of(rollout)
    lanes, drops = [], []
    for indices in groups:
        pairs, dropped = pairs_of(indices, findings)
        lanes.append([_moved(pair, indices) for pair in pairs])
        drops += dropped
    turns = (pair for turn in zip_longest(*lanes) for pair in turn if pair is not None)
    made = {pair.id: pair for pair in reversed(list(turns))}
    capped = _capped(reversed(made.values()), policy.max_per_response)
    pairs = list(islice(capped, policy.max_per_seed))
    if pairs or len(groups) == 1:
        return pairs, drops
    together, dropped = pairs_of(range(len(rollout.responses)), Findings())
    if not together:
        return [], dropped
    detail = f"{len(groups)} prompts, and no pair within one of them: pairs share their prompt"
    return [], [Drop(rollout.seed.id, "pairing", "prompts_differ", detail)]


def _prompts_of(rollout: Rollout) -> list[list[int]]:
    """Indices of the responses to each prompt, in the order of the builds."""
    groups: dict[tuple[str, str], list[int]] = {}
    asked = (m for member in members_of(rollout) for m in [member] * len(member.responses))
    for index, member in enumerate(asked):
        groups.setdefault((member.prompt, member.style), []).append(index)
    return list(groups.values()) or [[]]


def _capped(pairs: Iterable[Pair], most: int | None) -> Iterator[Pair]:
    """Without those of a text that is in `most` of them on its side: responses to several prompts
    can be the same text."""
    uses: Counter[tuple[str, str]] = Counter()
    for pair in pairs:
        texts = [("chosen", normal(pair.chosen_text)), ("rejected", normal(pair.rejected_text))]
        if most is None or all(uses[text] < most for text in texts):
            uses.update(texts)
            yield pair


def _moved(pair: Pair, indices: Sequence[int]) -> Pair:
    return replace(
        pair,
        chosen_index=indices[pair.chosen_index],
        rejected_index=indices[pair.rejected_index],
    )
