"""The settings of a build: a recipe in YAML, `key=value` overrides, and what they mean.

    config = load_config("pipelines/demo.yaml", ["sampling.n=16", "seeds=a.jsonl", "out=out/x"])

Unknown keys are errors that name the nearest valid one. What is in `sampling_identity` decides
what a rollout says; a build folder made with other values of those is refused, all the rest can
change between runs.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_core import PydanticCustomError

from mmpr_builder.errors import ConfigError
from mmpr_builder.records import Kind

ScorerName = Literal["auto", "math", "choice", "relaxed", "vqa", "anls", "exact"]
Domain = Literal["general", "science", "chart", "math", "ocr", "document"]
Branch = Literal["auto", "correctness", "dropout", "both"]
LayoutName = Literal[
    "auto",
    "ai2d",
    "answer_lists",
    "chartqa",
    "clevr_math",
    "conversations",
    "geometry3k",
    "gqa",
    "iconqa",
    "mapqa",
    "ocrvqa",
    "scienceqa",
    "sroie",
    "vqa",
]
DATA = "{data}"
"""In a source's `path` or `root`: stands for `data`, the folder of public data sets."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


def _split_commas(value: object) -> object:
    """A list, or its items separated by commas, as on the command line."""
    return [part.strip() for part in value.split(",")] if isinstance(value, str) else value


Weight = Annotated[float, Field(ge=0)]


class SourceConfig(_Section):
    """One file, folder or data set of seeds, and what is particular about it."""

    path: str = Field(description="File, folder, glob, URL or hub id; `demo` is the small world.")
    name: str | None = Field(None, description="Source name; default: a row's own, or the stem.")
    root: str | None = Field(None, description="Where relative image paths start; default: beside.")
    split: str = Field("train", description="Split, for data sets from a hub or folder.")
    forbidden_splits: tuple[str, ...] = Field(
        (), description="Splits that must not be read, say because models are measured on them."
    )
    format: LayoutName = Field(
        "auto", description="Layout of its files, see docs/seeds.md; `auto` reads rows of any kind."
    )
    domain: Domain | None = Field(
        None, description="What it is about: picks the prompts of `prompts.mix`."
    )
    language: Literal["auto", "en", "zh"] = Field(
        "auto", description="Language of its questions; `auto` looks at each one."
    )
    branch: Branch = Field(
        "auto",
        description="Use truths (correctness), ignore them (dropout), both; `auto`: where given.",
    )
    scorer: ScorerName = Field("auto", description="How answers of this source are scored.")
    template: str | dict[str, str] | None = Field(
        None, description="Template name or path for seeds with a truth, or one per language."
    )
    templates: dict[str, Weight] | None = Field(
        None, description="Several of them with weights, as in `prompts.mix`; each seed gets one."
    )
    tiles: int | None = Field(
        None, ge=1, description="Image tiles at most; default: `images.tiles`."
    )
    limit: int | None = Field(None, ge=1, description="Read at most this many rows of it.")
    license: str | None = Field(None, description="Licence of its data, for card and report.")
    get: str | None = Field(None, description="Where it can be had, told when it is missing.")

    _accept_commas = field_validator("forbidden_splits", mode="before")(_split_commas)

    @field_validator("tiles", mode="after")
    @classmethod
    def _known_by_name(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value is not None and not info.data.get("name"):
            raise ValueError("a source with `tiles` needs a `name`, by which its seeds are known")
        return value


class PromptConfig(_Section):
    """How a seed becomes a prompt; see `prompts/`."""

    style: Literal["final_answer", "boxed", "think_boxed"] = Field(
        "final_answer", description="How the answer is asked for: picks `prompts/STYLE_LANGUAGE`."
    )
    language: Literal["auto", "en", "zh"] = Field(
        "auto", description="Prompt language; `auto` follows each seed's own."
    )
    template: str | dict[str, str] | None = Field(
        None, description="Template name or path instead of the style's own, or one per language."
    )
    open_template: str | dict[str, str] | None = Field(
        None, description="Template for seeds without a truth; default: the bare question."
    )
    mix: dict[Domain, dict[str, Weight]] = Field(
        default_factory=dict,
        description="By domain: prompt variants with weights, such as {plain: 1, visual: 1}.",
    )
    open_mix: dict[Domain, dict[str, Weight]] = Field(
        default_factory=dict, description="The same for seeds without a truth."
    )


class ImagesConfig(_Section):
    """How large the model sees images."""

    family: Literal["internvl", "qwen_vl"] | None = Field(
        None, description="How the model is told a tile budget; unset = it is told none."
    )
    tiles: int | None = Field(
        None, ge=1, description="Tiles of 448 x 448 pixels at most; unset = the model's own."
    )
    kwargs: dict[str, Any] = Field(
        default_factory=dict,
        description="For other families: arguments of the processor, with `{tiles}` or `{pixels}`.",
    )


class EndpointConfig(_Section):
    """An OpenAI-compatible server, for `sampling.engine=endpoint`."""

    url: str | None = Field(None, description="Base URL, such as `http://127.0.0.1:8000/v1`.")
    api_key_env: str = Field(
        "OPENAI_API_KEY", description="Environment variable that holds the key; may be unset."
    )
    concurrency: int = Field(64, ge=1, description="Requests in flight at once.")
    timeout_s: float = Field(600.0, gt=0, description="Seconds to wait for one request.")
    retries: int = Field(5, ge=0, description="Tries again on 429, 5xx and broken connections.")
    continuation: Literal["continue_final_message", "none"] = Field(
        "continue_final_message",
        description="How the server continues an open assistant turn (vLLM and SGLang can).",
    )


class SamplingConfig(_Section):
    """What is sampled. Defaults are the paper's: 32 at temperature 1.0 (arXiv 2411.10442, 7)."""

    engine: Literal["vllm", "endpoint", "replay"] = Field("vllm", description="Who answers.")
    policy: Literal["fixed", "adaptive"] = Field(
        "fixed",
        description="`fixed`: n responses; `adaptive`: in rounds until the pairs are there.",
    )
    n: int = Field(32, ge=1, le=4096, description="Responses per seed (adaptive: at most).")
    temperature: float = Field(1.0, ge=0, le=10, description="Sampling temperature.")
    top_p: float = Field(1.0, gt=0, le=1, description="Nucleus sampling; 1 = off.")
    top_k: int = Field(0, ge=0, description="Sample from the k likeliest tokens; 0 = off.")
    max_tokens: int = Field(4096, ge=1, description="Longest response in tokens.")
    seed: int = Field(0, ge=0, description="Run seed; each seed's own derives from it by hash.")
    logprobs: bool = Field(False, description="Keep each response's mean log-probability.")
    target_pairs: int = Field(
        15, ge=1, description="Adaptive: a seed has enough when it can give this many pairs."
    )
    target_kinds: tuple[Kind, ...] = Field(
        ("correctness", "format", "dropout_ntp"),
        description="Adaptive: kinds of pairs that count towards it.",
    )
    min_distinct: int = Field(
        1, ge=1, description="Adaptive: so many different texts it has on each side, too."
    )
    stop_error: float = Field(
        0.05,
        ge=0,
        le=1,
        description="Adaptive: share of the seeds with pairs that giving up early may lose.",
    )
    round: int = Field(2, ge=1, description="Adaptive: responses in a later round at least.")
    replay_from: str | None = Field(
        None, description="`DIR/rollouts` of an earlier build, for `sampling.engine=replay`."
    )
    endpoint: EndpointConfig = Field(default_factory=lambda: EndpointConfig())

    _accept_commas = field_validator("target_kinds", mode="before")(_split_commas)


class DropoutConfig(_Section):
    """DropoutNTP: cut a response, let the same model go on without the image."""

    apply: Literal["no_truth", "all", "none"] = Field(
        "no_truth", description="Which seeds get continuations: those without a truth, all, none."
    )
    keep: float = Field(
        0.5, ge=0, le=0.95, description="Part of the response kept; 0.5 is best in the paper."
    )
    image: bool = Field(False, description="Show the image to the continuation (ablation).")
    max_tokens: int | None = Field(
        None, ge=1, description="Longest continuation; default: sampling.max_tokens."
    )


class JudgeConfig(_Section):
    """A model behind an OpenAI-compatible server that is asked what no rule can decide."""

    url: str | None = Field(
        None, description="Base URL of a server to ask what stays undecided; unset = nobody."
    )
    model: str | None = Field(None, description="The model to ask there.")
    api_key_env: str = Field(
        "OPENAI_API_KEY", description="Environment variable that holds the key; may be unset."
    )
    prompt: str = Field(
        "judge_en", description="Its prompt: a shipped name or a text file, see `prompts/`."
    )
    concurrency: int = Field(
        16, ge=1, description="Requests in flight at once, for each process that scores."
    )
    timeout_s: float = Field(60.0, gt=0, description="Seconds to wait for one answer.")
    retries: int = Field(3, ge=0, description="Tries again on 429, 5xx and broken connections.")
    max_tokens: int = Field(8, ge=1, description="Longest answer; one word is asked for.")


class ScoringConfig(_Section):
    """How responses are judged."""

    scorer: ScorerName = Field("auto", description="Scorer where a source does not fix one.")
    timeout_s: float = Field(2.0, gt=0, le=60, description="Limit for one symbolic comparison.")
    memory_mb: int = Field(1024, ge=256, description="Memory limit of one symbolic worker.")
    unusable_truth: Literal["drop", "open"] = Field(
        "drop",
        description="A seed with no usable truth: drop it before sampling, or treat it as without.",
    )
    judge: JudgeConfig = Field(default_factory=lambda: JudgeConfig())


class PairingConfig(_Section):
    """Which pairs are made of judged responses."""

    max_per_seed: int = Field(15, ge=1, description="Pairs per seed at most (the paper's 15).")
    kinds: tuple[Kind, ...] = Field(
        ("correctness", "format", "dropout_ntp"),
        description="Kinds to make; add `truncated` to use responses cut at max_tokens.",
    )
    seed: int = Field(0, ge=0, description="Breaks ties between equally good pairs.")
    reject_list: str | None = Field(
        None, description="File of pair ids to leave out, as saved from a report."
    )

    _accept_commas = field_validator("kinds", mode="before")(_split_commas)


class DecontaminateConfig(_Section):
    """Evaluation sets that must not be trained on; see `quality/contamination.py`."""

    against: tuple[str, ...] = Field(
        (),
        description="Evaluation sets to keep out: files, folders or hub ids, as for seeds; set it"
        " whenever the model is to be measured on them.",
    )
    split: str = Field("test", description="Their split, for data sets from a hub or folder.")
    policy: Literal["question_and_image", "image"] = Field(
        "question_and_image",
        description="`image`: drop a seed for its picture alone, too; use it where evaluation"
        " pictures must not be seen at all.",
    )
    question_similarity: float = Field(
        0.4, ge=0, le=1, description="Share of words in common that counts beside the same picture."
    )
    text_similarity: float = Field(
        0.8, ge=0, le=1, description="The same where a question stands alone, without a picture."
    )
    question_words: int = Field(
        12, ge=4, description="Shortest question that counts alone; two Chinese characters are one."
    )
    unreadable: Literal["stop", "skip"] = Field(
        "stop", description="What to do with a row of them that cannot be read, hence not found."
    )

    _accept_commas = field_validator("against", mode="before")(_split_commas)


class QualityConfig(_Section):
    """Controls that drop seeds, responses or continuations; all off unless asked for."""

    decontaminate: DecontaminateConfig = Field(default_factory=lambda: DecontaminateConfig())
    near_duplicates: bool = Field(
        False,
        description="Drop seeds that ask the same of the same picture as an earlier one, or nearly"
        " the same long text; use it when sources overlap. Opens every picture while planning.",
    )
    hygiene: bool = Field(
        False,
        description="No response with a loop, the wrong language, leaked tokens, a refusal or a"
        " contradiction is chosen; use it with any model whose responses you have not read.",
    )
    dropout_gate: bool = Field(
        False,
        description="No continuation that nearly equals the original, misses the image, loops or"
        " runs away is rejected; use it wherever DropoutNTP pairs are trained on.",
    )
    distinct: float | None = Field(
        None,
        gt=0.5,
        le=1,
        description="Responses with this share of words in common on one side count once; 0.95 is a"
        " start for models that repeat themselves.",
    )


class OutputConfig(_Section):
    """How Parquet is written."""

    shard_bytes: int = Field(512 * 2**20, ge=2**16, description="New file after this many bytes.")
    row_group_bytes: int = Field(64 * 2**20, ge=2**14, description="Row group size at most.")


class DistributedConfig(_Section):
    """Where and how wide it runs."""

    address: str | None = Field(
        None, description="Ray cluster to use; default: RAY_ADDRESS if set, else a local Ray."
    )
    replicas: int | Literal["auto"] = Field(
        "auto",
        description="Engines; `auto`: as many as the GPUs hold now, on CPUs one per node.",
    )
    wait_s: float | None = Field(
        None,
        ge=0,
        description="Wait while no node can hold an engine; default: 0 at first, 1800 later.",
    )
    unit_queries: int = Field(64, ge=1, le=4096, description="Seeds in one unit of work.")
    unit_bytes: int = Field(
        256 * 2**20, ge=2**20, description="Image bytes in one unit at most, as read from disk."
    )
    units_in_flight: int = Field(4, ge=1, description="Units open in one engine at a time.")
    max_tries: int = Field(3, ge=1, description="Tries of a unit before it is split.")
    scoring_workers: int | Literal["auto"] = Field("auto", description="Processes that score.")


class Config(_Section):
    """Everything a build needs to know."""

    name: str = Field("mmpr", description="Name of the data set, for its card.")
    out: str = Field("out/mmpr", description="Build folder: path or fsspec URL.")
    model: str = Field("demo", description="Model path or hub id; `demo` is the shipped one.")
    lora: str | None = Field(None, description="LoRA adapter folder to sample with.")
    data: str = Field(
        "data", description="Folder of public data sets: `{data}` in paths of sources."
    )
    sources: tuple[str, ...] | None = Field(
        None, description="Use only the sources of these names."
    )
    seeds: tuple[SourceConfig, ...] = Field(
        (SourceConfig(path="demo"),),
        validate_default=True,
        description="Sources: paths (comma-separated on the command line) or tables of settings.",
    )
    limit: int | None = Field(None, ge=1, description="Use only the first so many seeds in all.")
    prompts: PromptConfig = Field(default_factory=lambda: PromptConfig())
    sampling: SamplingConfig = Field(default_factory=lambda: SamplingConfig())
    dropout: DropoutConfig = Field(default_factory=lambda: DropoutConfig())
    images: ImagesConfig = Field(default_factory=lambda: ImagesConfig())
    engine: dict[str, Any] = Field(
        default_factory=dict, description="Any vLLM engine argument: dtype, quantization, …"
    )
    scoring: ScoringConfig = Field(default_factory=lambda: ScoringConfig())
    pairing: PairingConfig = Field(default_factory=lambda: PairingConfig())
    quality: QualityConfig = Field(default_factory=lambda: QualityConfig())
    output: OutputConfig = Field(default_factory=lambda: OutputConfig())
    distributed: DistributedConfig = Field(default_factory=lambda: DistributedConfig())

    _accept_commas = field_validator("sources", mode="before")(_split_commas)

    @field_validator("seeds", mode="before")
    @classmethod
    def _accept_paths(cls, value: object) -> object:
        """`a.jsonl,b.jsonl`, a list of paths, a table, a list of tables, or tables by name."""
        if isinstance(value, str):
            value = [part.strip() for part in value.split(",") if part.strip()]
        if isinstance(value, Mapping):
            named = value and all(isinstance(item, Mapping) for item in value.values())
            value = [{"name": k, **v} for k, v in value.items()] if named else [value]
        if isinstance(value, list | tuple):
            if not value:
                raise ValueError("name at least one file, folder or data set")
            return tuple({"path": item} if isinstance(item, str) else item for item in value)
        return value

    @field_validator("seeds", mode="after")
    @classmethod
    def _place_and_pick(
        cls, value: tuple[SourceConfig, ...], info: ValidationInfo
    ) -> tuple[SourceConfig, ...]:
        """Put `data` into paths, and leave out what `sources` does not name."""
        placed = tuple(_placed(source, str(info.data.get("data", DATA))) for source in value)
        wanted = info.data.get("sources")
        if wanted is None:
            return placed
        names = [source_label(source) for source in placed]
        for name in wanted:
            if name not in names:
                near = difflib.get_close_matches(name, names, n=1, cutoff=0.0)
                raise PydanticCustomError(
                    _NO_SUCH_SOURCE,
                    "{name} is none of the {count} sources; the nearest is {near}",
                    {"name": repr(name), "count": len(names), "near": repr(near[0])},
                )
        return tuple(s for s, name in zip(placed, names, strict=True) if name in wanted)


_NO_SUCH_SOURCE = "no_such_source"


def _placed(source: SourceConfig, data: str) -> SourceConfig:
    texts = {"path": source.path, "root": source.root}
    found = {k: v.replace(DATA, data.rstrip("/") or "/") for k, v in texts.items() if v}
    return source.model_copy(update=found)


def source_label(source: SourceConfig) -> str:
    """The name of a source, or what its path is called: `data/a.jsonl` is `a`."""
    return source.name or source.path.rstrip("/").rsplit("/", 1)[-1].split(".", 1)[0]


def tiles_for(config: Config, name: str) -> int | None:
    """The tile budget of seeds of a source: its own, else `images.tiles`; None is unlimited."""
    own = (source.tiles for source in config.seeds if source_label(source) == name)
    return next((tiles for tiles in own if tiles is not None), config.images.tiles)


# Only these decide what the rollouts of given seeds say. `sampling.endpoint` is left out (where a
# model is served does not change it); so are the sizes of units and the number of replicas.
_IDENTITY = (
    *("model", "lora", "seeds", "limit", "prompts", "sampling", "dropout", "images", "engine"),
)


def sampling_identity(config: Config) -> dict[str, Any]:
    """The settings that decide what rollouts say, flat: dotted key -> value."""
    flat: dict[str, Any] = {}
    for key in _IDENTITY:
        _flatten(key, config.model_dump(mode="json")[key], flat)
    kept = {k: v for k, v in flat.items() if not k.startswith("sampling.endpoint.")}
    # With "open" the seeds that planning would drop are sampled, and continued.
    kept["scoring.unusable_truth"] = config.scoring.unusable_truth
    # The controls that choose seeds, where they are on; the others can change between runs.
    chosen = config.quality.model_dump(mode="json")
    if chosen["decontaminate"]["against"]:
        _flatten("quality.decontaminate", chosen["decontaminate"], kept)
    if chosen["near_duplicates"]:
        kept["quality.near_duplicates"] = True
    # These belong to the second half: changing them must not cost a token.
    later = (".scorer", ".license", ".get", ".forbidden_splits")
    return {k: v for k, v in kept.items() if not (k.startswith("seeds.") and k.endswith(later))}


def identity_hash(identity: Mapping[str, Any]) -> str:
    """16 hex digits over `sampling_identity`, independent of key order."""
    text = json.dumps(identity, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _flatten(prefix: str, value: Any, into: dict[str, Any]) -> None:
    if isinstance(value, dict) and value:
        for key, item in value.items():
            _flatten(f"{prefix}.{key}", item, into)
    elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
        for i, item in enumerate(value):
            _flatten(f"{prefix}.{i}", item, into)
    else:
        into[prefix] = value


def load_config(recipe: str | Path | None, overrides: Iterable[str] = ()) -> Config:
    """Read a recipe (or only defaults), apply overrides, check everything.

    Raises `ConfigError` quoting the value, the key and the nearest valid key.
    """
    data = _with_base(_read_recipe(recipe), str(recipe), ()) if recipe is not None else {}
    overrides = list(overrides)
    for override in overrides:
        _apply_override(data, override)
    try:
        return Config.model_validate(data)
    except ValidationError as error:
        named = data["seeds"] if isinstance(data.get("seeds"), dict) else {}
        lines = [_explain(item, str(recipe), overrides, list(named)) for item in error.errors()]
        raise ConfigError("\n".join(lines)) from None


def _read_recipe(recipe: str | Path) -> dict[str, Any]:
    path = find_shipped("pipelines", str(recipe), ".yaml")
    if path is None:
        raise ConfigError(
            f"recipe {str(recipe)!r} is neither a file nor a shipped recipe"
            f" ({', '.join(shipped_names('pipelines', '.yaml'))}): give the path of a YAML file"
        )
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from None
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: a recipe is a table of settings, got {type(data).__name__}")
    return data


def _with_base(data: dict[str, Any], recipe: str, above: tuple[str, ...]) -> dict[str, Any]:
    """A recipe with what it leaves out filled in from its `base`, another recipe."""
    base = data.pop("base", None)
    if base is None:
        return data
    if not isinstance(base, str) or base in above:
        raise ConfigError(f"{recipe}: base = {base!r}: give another recipe, by name or path")
    beside = Path(recipe).parent / base
    found = str(beside) if beside.is_file() else base
    under = _with_base(_read_recipe(found), found, (*above, base))
    return {
        key: _merged(under.get(key), data.get(key, under.get(key))) for key in {**under, **data}
    }


def _merged(under: Any, over: Any) -> Any:
    """`over`, and in tables also what only `under` has."""
    if not (isinstance(under, dict) and isinstance(over, dict)):
        return over
    return {
        key: _merged(under.get(key), over.get(key, under.get(key))) for key in {**under, **over}
    }


def _apply_override(data: dict[str, Any], override: str) -> None:
    key, equals, raw = override.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"override {override!r} is not of the form key=value, say sampling.n=16")
    try:
        value = yaml.safe_load(raw) if raw.strip() else None
    except yaml.YAMLError:
        value = raw
    *parents, last = key.strip().split(".")
    table: Any = data
    for parent in parents:
        table = _step_into(table, parent, override)
    if isinstance(table, list):
        _step_into(table, last, override)
        table[int(last)] = raw
        return
    # Text stays text, even where YAML would read something else out of it (say, out=2024).
    table[last] = raw if raw.strip() and _is_text(key.strip(), raw) else value


def _step_into(table: Any, part: str, override: str) -> Any:
    """The table under `part`; `seeds.0` is the first source, a bare path or a table."""
    if isinstance(table, list):
        if not part.isdigit() or int(part) >= len(table):
            raise ConfigError(f"override {override!r}: the recipe has {len(table)} sources, from 0")
        if isinstance(table[int(part)], str):
            table[int(part)] = {"path": table[int(part)]}
        return table[int(part)]
    if part.isdigit() and part not in table and int(part) < len(table):
        part = list(table)[int(part)]  # Sources by name have numbers, too.
    child = table.setdefault(part, {})
    if not isinstance(child, dict | list):
        raise ConfigError(f"override {override!r}: {part!r} is a value, not a table")
    return child


_TEXT_KEYS = (
    *("out", "model", "name", "lora", "data", "sampling.replay_from", "sampling.endpoint.url"),
    "pairing.reject_list",
    *("scoring.judge.url", "scoring.judge.model", "scoring.judge.prompt"),
)


def _is_text(key: str, raw: str) -> bool:
    if key == "seeds":
        return not raw.lstrip().startswith(("[", "{"))
    return key in _TEXT_KEYS or (key.startswith("seeds.") and key.endswith((".path", ".root")))


def _explain(item: Any, recipe: str, overrides: list[str], named: list[str]) -> str:
    """What is wrong, where, and the fix. `named` are the sources of a table of them, by number."""
    loc = list(item["loc"])
    if loc[0] == "seeds" and len(loc) > 1 and len(named) > loc[1]:
        loc[1] = named[loc[1]]
    key = ".".join(str(part) for part in loc)
    if item["type"] == _NO_SUCH_SOURCE:
        key = "sources"
    # An override is to blame if it set the key or something under or above it.
    given = [(o.split("=")[0].strip(), o) for o in overrides]
    blamed = [o for k, o in given if f"{k}.".startswith(f"{key}.") or f"{key}.".startswith(f"{k}.")]
    where = blamed[-1] if blamed else recipe
    if item["type"] == "extra_forbidden":
        near = difflib.get_close_matches(key, valid_keys(), n=1, cutoff=0.0)
        hint = f"; the nearest valid key is {near[0]!r}" if near else ""
        return f"{where}: unknown key {key!r} (value {item['input']!r}){hint}"
    if item["type"] == _NO_SUCH_SOURCE:
        return f"{where}: sources: {item['msg']}"
    return f"{where}: {key} = {item['input']!r}: {item['msg']}"


def valid_keys() -> list[str]:
    """All dotted keys of the settings, in the order of the settings table."""
    return [key for key, _, _ in settings_table()]


def settings_table() -> list[tuple[str, str, str]]:
    """(key, default, description) of every setting, for the README and `mmpr settings`."""
    rows: list[tuple[str, str, str]] = []
    _collect(Config, "", rows)
    return rows


def _collect(model: type[BaseModel], prefix: str, rows: list[tuple[str, str, str]]) -> None:
    for name, field in model.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, BaseModel):
            _collect(section, f"{prefix}{name}.", rows)
            continue
        default = None if field.is_required() else field.get_default(call_default_factory=True)
        if name == "seeds":
            default = "demo"
        shown = "" if default is None else json.dumps(_plain(default), ensure_ascii=False)
        rows.append((f"{prefix}{name}", shown.strip('"'), field.description or ""))
        if name == "seeds":
            _collect(SourceConfig, "seeds.N.", rows)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def shipped_folder(kind: Literal["pipelines", "prompts"]) -> Path:
    """The folder of shipped recipes or prompts, in an installed package or in a checkout."""
    package = Path(__file__).parent
    installed = package / "_shipped" / kind
    return installed if installed.is_dir() else package.parent / kind


def shipped_names(kind: Literal["pipelines", "prompts"], suffix: str) -> list[str]:
    """Names (without suffix) of what is shipped, sorted."""
    return sorted(path.stem for path in shipped_folder(kind).glob(f"*{suffix}"))


def find_shipped(kind: Literal["pipelines", "prompts"], name: str, suffix: str) -> Path | None:
    """`name` as a file of the user's, else as a shipped one (`demo`, `pipelines/demo.yaml`)."""
    path = Path(name).expanduser()
    if path.is_file():
        return path
    shipped = shipped_folder(kind) / path.name.removesuffix(suffix)
    shipped = shipped.with_name(shipped.name + suffix)
    is_ours = path.parent in (Path(), Path(kind))
    return shipped if is_ours and shipped.is_file() else None
