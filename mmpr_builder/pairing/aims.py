"""What pairing is set to make that adaptive sampling does not care for."""

from __future__ import annotations

from mmpr_builder.config import Config


def missed_aims(config: Config) -> str:
    """What pairing is set to make that adaptive sampling does not care for; "" if nothing."""
    sampling, policy = config.sampling, config.pairing
    if sampling.policy != "adaptive":
        return ""
    said = []
    if policy.max_per_seed > sampling.target_pairs:
        said.append(
            f"pairing.max_per_seed = {policy.max_per_seed}, but a seed is done when it can give"
            f" sampling.target_pairs = {sampling.target_pairs}"
        )
    if _stricter(policy.max_per_response, sampling.target_per_response):
        said.append(
            f"pairing.max_per_response = {policy.max_per_response}, but"
            f" sampling.target_per_response = {_shown(sampling.target_per_response)}: set it alike"
        )
    if _stricter(policy.max_gap, sampling.target_gap):
        said.append(
            f"pairing.max_gap = {policy.max_gap}, but sampling.target_gap ="
            f" {_shown(sampling.target_gap)}: set it alike"
        )
    unmade = [kind for kind in sampling.target_kinds if kind not in policy.kinds]
    if unmade:
        said.append(
            f"pairing.kinds makes no {', '.join(unmade)}, but sampling.target_kinds counts them"
        )
    return "; ".join(said)


def _stricter(limit: int | None, aim: int | None) -> bool:
    return limit is not None and (aim is None or limit < aim)


def _shown(limit: int | None) -> str:
    return "no limit" if limit is None else str(limit)
