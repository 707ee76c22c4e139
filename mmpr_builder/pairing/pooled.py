"""The rollouts of one seed in several builds, as one.

    build A   model strong, 32 responses to prompt P   \\
    build B   model weak,   16 responses to prompt P    > one seed with 56 responses
    build C   model weak,    8 responses to prompt Q   /

Every response is judged in the style that its own prompt asked for. A pair is made of two responses
to the *same* prompt only, and says which: whatever differs between chosen and rejected is then the
response, not what was asked. So A x A, B x B and A x B give pairs with P, C x C with Q.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, chain, islice, zip_longest

from mmpr_builder.config import Config, DropoutConfig
from mmpr_builder.dropout import wants_continuation
from mmpr_builder.pairing.candidates import normal
from mmpr_builder.pairing.pass_rate import pass_rate
from mmpr_builder.quality import Findings
from mmpr_builder.records import Drop, Pair, Response, Rollout, Verdict

Build = Callable[..., tuple[list[Pair], list[Drop]]]
"""`pairing.build_pairs`."""


@dataclass(frozen=True, slots=True)
class PooledRollout(Rollout):
    """Rollouts of the same seed; the responses are theirs, one rollout after the other.

    Prompt, template, style and model are those of the first; those of a response are its own
    rollout's (`member_of`). `error` is set where no member has been sampled.
    """

    members: tuple[Rollout, ...] = ()
    settings: tuple[Config, ...] = ()
    """Parallel to `members`: what each was sampled with."""
    drop: Drop | None = None
    """Why it cannot be judged at all."""


def pool(members: Sequence[Rollout], settings: Sequence[Config]) -> PooledRollout:
    """One rollout of at least one; seed, index and error are the first one's.

    A member that could not be sampled counts only where all could not.
    """
    first = members[0]
    sampled = [i for i, member in enumerate(members) if member.error is None]
    kept = sampled or range(len(members))
    of = [members[i] for i in kept]
    return PooledRollout(
        seed=first.seed,
        prompt=of[0].prompt,
        template=of[0].template,
        style=of[0].style,
        model=of[0].model,
        image_sha256=of[0].image_sha256,
        responses=tuple(chain.from_iterable(member.responses for member in of)),
        prompt_tokens=sum(member.prompt_tokens for member in of),
        error=of[0].error,
        index=first.index,
        stop=of[0].stop,
        blind=tuple(chain.from_iterable(member.blind for member in of)),
        members=tuple(replace(member, seed=first.seed, index=first.index) for member in of),
        settings=tuple(settings[i] for i in kept),
    )


def members_of(rollout: Rollout) -> tuple[Rollout, ...]:
    """The rollouts that were pooled; a rollout of one build is its own only one."""
    return rollout.members if isinstance(rollout, PooledRollout) else (rollout,)


def member_at(rollout: Rollout, index: int) -> int:
    """Which of `members_of` a response belongs to."""
    ends = accumulate(len(member.responses) for member in members_of(rollout))
    return next(number for number, end in enumerate(ends) if index < end)


def member_of(rollout: Rollout, index: int) -> Rollout:
    """The rollout that a response belongs to: its model, prompt, template and style."""
    return members_of(rollout)[member_at(rollout, index)]


def settings_of(rollout: PooledRollout, index: int) -> Config:
    """What a response was sampled with."""
    return rollout.settings[member_at(rollout, index)]


def continued_by(
    rollout: Rollout, config: Config
) -> Iterator[tuple[Sequence[Response], DropoutConfig]]:
    """The responses that were to be continued, and how: as the settings of their own build say."""
    settings = rollout.settings if isinstance(rollout, PooledRollout) else (config,)
    for member, of in zip(members_of(rollout), settings, strict=True):
        if wants_continuation(member.seed, of.dropout):
            yield member.responses, of.dropout


def models_of(rollout: Rollout) -> list[str]:
    """Who wrote each response."""
    return [member.model for member in members_of(rollout) for _ in member.responses]


def pooled_rate(
    rollout: PooledRollout,
    verdicts: Sequence[Verdict],
    responses: Sequence[Response] | None = None,
) -> float | None:
    """The pass rate of a pooled seed: the mean of its builds' own rates, weighted by the number of
    responses that each was asked for.

    A build that stops early has as many responses as chance wanted, so their plain share would be
    biased towards what stops it. A build none of whose responses is decided does not count. With
    builds of several models this is the rate of the mixture, see `rates_by_model`. `responses` are
    the rollout's as pairing may use them, by which adaptive sampling decided when to stop.
    """
    return _mean(_rates(rollout, verdicts, responses))


def rate_of(rollout: Rollout, verdicts: Sequence[Verdict], config: Config) -> float | None:
    """The pass rate of a seed, pooled or of one build (`pass_rate`)."""
    if isinstance(rollout, PooledRollout):
        return pooled_rate(rollout, verdicts)
    return pass_rate(rollout.seed, rollout.responses, verdicts, config)


def rates_by_model(rollout: Rollout, verdicts: Sequence[Verdict]) -> dict[str, float]:
    """Model -> its own pass rate, for pooled seeds that several models answered; else {}."""
    if not isinstance(rollout, PooledRollout) or not verdicts:
        return {}
    models = sorted({member.model for member in rollout.members})
    if len(models) < 2:
        return {}
    rates = {m: _mean(_rates(rollout, verdicts, None, model=m)) for m in models}
    return {model: rate for model, rate in rates.items() if rate is not None}


def _rates(
    rollout: PooledRollout,
    verdicts: Sequence[Verdict],
    responses: Sequence[Response] | None,
    model: str | None = None,
) -> list[tuple[float, int]]:
    """(rate, responses asked for) of the members, or of those of one model."""
    usable = rollout.responses if responses is None else responses
    found, start = [], 0
    for member, config in zip(rollout.members, rollout.settings, strict=True):
        stop = start + len(member.responses)
        rate = pass_rate(rollout.seed, usable[start:stop], verdicts[start:stop], config)
        if rate is not None and model in (None, member.model):
            found.append((rate, config.sampling.n))
        start = stop
    return found


def _mean(rates: Sequence[tuple[float, int]]) -> float | None:
    if len(rates) == 1:
        return rates[0][0]  # Multiplied and divided it would not be the same to the last bit.
    weight = sum(n for _, n in rates)
    return sum(rate * n for rate, n in rates) / weight if weight else None


def pair_pooled(
    rollout: PooledRollout,
    responses: Sequence[Response],
    verdicts: Sequence[Verdict],
    config: Config,
    build: Build,
    *,
    faults: Counter[str] | None,
    findings: Findings | None,
) -> tuple[list[Pair], list[Drop]]:
    """What `build_pairs` makes of the responses to each prompt; prompts take turns up to
    `pairing.max_per_seed`, and none gives the same two texts again.

    `responses` are the rollout's as pairing may use them; without any pair there is one `Drop`.
    """
    models = models_of(rollout)
    known = {
        "rate": (pooled_rate(rollout, verdicts, responses), len(responses)),
        "rng_seed": config.pairing.seed,
    }
    groups = _by_prompt(rollout)
    lanes, drops = [], []
    for indices in groups:
        pairs, dropped = build(
            rollout.seed,
            [responses[i] for i in indices],
            [verdicts[i] for i in indices],
            config,
            models=[models[i] for i in indices],
            faults=faults,
            findings=findings,
            **known,
        )
        lanes.append([_moved(pair, indices) for pair in pairs])
        drops += dropped
    turns = (pair for turn in zip_longest(*lanes) for pair in turn if pair is not None)
    made = {pair.id: pair for pair in reversed(list(turns))}
    capped = _capped(reversed(made.values()), config.pairing.max_per_response)
    pairs = list(islice(capped, config.pairing.max_per_seed))
    if pairs or len(groups) == 1:
        return pairs, drops
    together, dropped = build(rollout.seed, responses, verdicts, config, models=models, **known)
    if not together:
        return [], dropped
    detail = f"{len(groups)} prompts, and no pair within one of them: pairs share their prompt"
    return [], [Drop(rollout.seed.id, "pairing", "prompts_differ", detail)]


def _capped(pairs: Iterable[Pair], most: int | None) -> Iterator[Pair]:
    """Without those of a text that has been in `most` of them on its side: each prompt's pairs keep
    to it, and responses to several prompts can be the same text."""
    chosen: Counter[str] = Counter()
    rejected: Counter[str] = Counter()
    for pair in pairs:
        one, other = normal(pair.chosen_text), normal(pair.rejected_text)
        if most is not None and (chosen[one] >= most or rejected[other] >= most):
            continue
        chosen[one] += 1
        rejected[other] += 1
        yield pair


def _by_prompt(rollout: PooledRollout) -> list[list[int]]:
    """Indices of the responses to each prompt, in the order of the builds."""
    groups: dict[tuple[str, str], list[int]] = {}
    start = 0
    for member in rollout.members:
        stop = start + len(member.responses)
        groups.setdefault((member.prompt, member.style), []).extend(range(start, stop))
        start = stop
    return list(groups.values())


def _moved(pair: Pair, indices: Sequence[int]) -> Pair:
    return replace(
        pair,
        chosen_index=indices[pair.chosen_index],
        rejected_index=indices[pair.rejected_index],
    )
