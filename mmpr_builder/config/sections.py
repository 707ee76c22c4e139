"""The sections of the settings, in the order of a build, each key with its default and description.

seeds, prompts, images   what is asked         sampling, dropout   what is sampled
scoring, pairing         what is made of it    quality             which of it is dropped
output, distributed      how it is written, and where a build runs
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    WithJsonSchema,
    field_serializer,
    field_validator,
    model_validator,
)

from mmpr_builder.records import Kind

Weight = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Natural = Annotated[int, Field(ge=0)]
Samples = Annotated[int, Field(ge=0, le=256)]
Templates = Annotated[
    str | dict[str, str] | None,
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "object"}, {"type": "null"}]}),
]
"""One template for all, or one per language; tables of weights are moved to fields of their own."""


def follower(followed: str, **field: Any) -> Any:
    """The field of a setting that follows another one: recorded settings state it, recipes may not
    (see `recipes.FOLLOWED`)."""
    return Field(**field, json_schema_extra={"hidden": True, "follows": followed})


def fixed(value: Any, **field: Any) -> Any:
    """The field of an earlier setting that has one value now; recorded ones may state another."""
    return Field(value, **field, json_schema_extra={"hidden": True, "always": value})


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


def split_commas(value: object) -> object:
    """A list, or its items separated by commas, as on the command line.

    Raises `ValueError` for an empty item: what was to stand there would be left out unseen.
    """
    if not isinstance(value, str):
        return value
    items = [part.strip() for part in value.split(",")]
    if "" in items:
        raise ValueError("an item is empty: name each, with one comma between two")
    return items


Names = Annotated[tuple[str, ...], BeforeValidator(split_commas)]
Kinds = Annotated[tuple[Kind, ...], BeforeValidator(split_commas)]

ScorerName = Literal["auto", "math", "choice", "relaxed", "vqa", "anls", "exact"]
Domain = Literal["general", "science", "chart", "math", "ocr", "document"]
Branch = Literal["auto", "correctness", "dropout", "both", "majority"]
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
USUAL_KINDS: tuple[Kind, ...] = ("correctness", "format", "dropout_ntp")
NETWORK = ("http", "https", "s3", "gs", "az", "abfs", "hf")
"""Protocols that `seeds.N.allow` can open to the image URLs of rows."""
DATA = "{data}"
"""In a source's `path` or `root`: stands for `data`, the folder of public data sets."""


Role = Literal["id", "question", "image", "answer", "choices", "source", "context"]


class SourceConfig(Section):
    """One file, folder or data set of seeds, and what is particular about it."""

    path: str = Field(description="File, folder, glob, URL or hub id; `demo` is the small world.")
    name: str | None = Field(None, description="Source name; default: a row's own, or the stem.")
    root: str | None = Field(None, description="Where relative image paths start; default: beside.")
    roots: Names = Field(
        (), description="Further folders whose images rows may name, by absolute paths or links."
    )
    allow: Names = Field(
        (),
        description="Protocols of image URLs that rows may name (`https`, `s3`, …), or beginnings"
        " of URLs; private addresses only by such a beginning.",
    )
    split: str = Field("train", description="Split, for data sets from a hub or folder.")
    forbidden_splits: Names = Field(
        (), description="Splits that must not be read, say because models are measured on them."
    )
    format: LayoutName = Field(
        "auto", description="Layout of its files, see docs/seeds.md; `auto` reads rows of any kind."
    )
    columns: dict[Role, str | tuple[str, ...]] = Field(
        default_factory=dict,
        description="Which of its columns hold what, where names do not tell: {image: img, choices:"
        " [A, B, C, D]}; [] for none.",
    )
    require_image: bool = Field(False, description="Drop rows without a picture.")
    domain: Domain | None = Field(
        None, description="What it is about: picks its mix in `prompts.template`."
    )
    language: Literal["auto", "en", "zh"] = Field(
        "auto", description="Language of its questions; `auto` looks at each one."
    )
    branch: Branch = Field(
        "auto",
        description="Use truths (correctness), ignore them (dropout), both; `auto`: where given;"
        " `majority`: as `auto`, and for closed questions without one a clear majority is it.",
    )
    scorer: ScorerName = Field("auto", description="How answers of this source are scored.")
    template: Templates = Field(
        None,
        description="Template name or path for seeds with a truth, one per language, or several"
        " with weights, such as {plain: 1, visual: 1}.",
    )
    templates: dict[str, Weight] | None = follower("seeds.N.template", default=None)
    tiles: Count | None = Field(None, description="Image tiles at most; default: `images.tiles`.")
    limit: Count | None = Field(None, description="Read at most this many rows of it.")
    license: str | None = Field(None, description="Licence of its data, for card and report.")
    get: str | None = Field(None, description="Where it can be had, told when it is missing.")

    @model_validator(mode="before")
    @classmethod
    def _by_kind(cls, value: object) -> object:
        """A `template` with weights under `templates`."""
        if not isinstance(value, Mapping):
            return value
        found = dict(value)
        template = found.get("template")
        if template is not None and found.get("templates") is not None:
            raise ValueError("has both `template` and `templates`: keep `template`")
        if isinstance(template, Mapping) and not any(isinstance(v, str) for v in template.values()):
            found["template"], found["templates"] = None, template
        return found

    @field_validator("roots", mode="after")
    @classmethod
    def _folders(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for root in value:
            if "://" in root:
                raise ValueError(f"{root!r} is a URL: name it in `allow`")
        return value

    @field_validator("allow", mode="after")
    @classmethod
    def _network(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for entry in value:
            scheme, mark, host = entry.partition("://")
            if scheme not in NETWORK or (mark and not host.strip("/")) or "@" in entry:
                raise ValueError(
                    f"{entry!r} is neither one of {', '.join(NETWORK)} nor the beginning of such a"
                    " URL, with a host"
                )
        return value

    @field_validator("tiles", mode="after")
    @classmethod
    def _known_by_name(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value is not None and not info.data.get("name"):
            raise ValueError("a source with `tiles` needs a `name`, by which its seeds are known")
        return value


class PromptConfig(Section):
    """How a seed becomes a prompt; see `prompts/`."""

    style: Literal["final_answer", "boxed", "think_boxed"] = Field(
        "final_answer", description="How the answer is asked for: picks `prompts/STYLE_LANGUAGE`."
    )
    language: Literal["auto", "en", "zh"] = Field(
        "auto", description="Prompt language; `auto` follows each seed's own."
    )
    template: Templates = Field(
        None,
        description="Template name or path instead of the style's own, or a table: one per"
        " language, and by domain prompt variants with weights, such as {chart: {plain: 1, visual:"
        " 1}}.",
    )
    open_template: Templates = Field(
        None,
        description="The same for seeds without a truth; default: the bare question.",
    )
    mix: dict[Domain, dict[str, Weight]] = follower("prompts.template", default_factory=dict)
    open_mix: dict[Domain, dict[str, Weight]] = follower(
        "prompts.open_template", default_factory=dict
    )

    @model_validator(mode="before")
    @classmethod
    def _by_kind(cls, value: object) -> object:
        """What a template's table says by domain under `mix` and `open_mix`."""
        if not isinstance(value, Mapping):
            return value
        found = dict(value)
        for name, mixes in (("template", "mix"), ("open_template", "open_mix")):
            table = found.get(name)
            if isinstance(table, Mapping):
                by_domain = {k: v for k, v in table.items() if isinstance(v, Mapping)}
                found[name] = {k: v for k, v in table.items() if k not in by_domain} or None
                found[mixes] = {**found.get(mixes, {}), **by_domain}
        return found


class ImagesConfig(Section):
    """How large the model sees images."""

    family: Literal["internvl", "qwen_vl"] | None = Field(
        None,
        description="How the model is told a budget where its class does not say: `internvl`,"
        " `qwen_vl`, or a table of its processor's arguments, with `{tiles}` or `{pixels}`.",
    )
    tiles: Count | None = Field(
        None, description="Tiles of 448 x 448 pixels at most; unset = the model's own."
    )
    pixels: Count | None = Field(
        None, description="The same in pixels, for sources without `tiles`."
    )
    kwargs: dict[str, Any] = follower("images.family", default_factory=dict)
    asked: bool = Field(True, json_schema_extra={"hidden": True})
    """False where only a shipped recipe sets a budget."""

    @model_validator(mode="before")
    @classmethod
    def _by_kind(cls, value: object) -> object:
        """A `family` that is a table under `kwargs`."""
        if isinstance(value, Mapping) and isinstance(value.get("family"), Mapping):
            value = {**value, "family": None, "kwargs": value["family"]}
        if isinstance(value, Mapping) and value.get("tiles") and value.get("pixels"):
            raise ValueError("has both `tiles` and `pixels`: keep one of them")
        return value


Ratio = Annotated[float, Field(ge=0, le=0.95)]


class EndpointConfig(Section):
    """An OpenAI-compatible server, for `sampling.engine=endpoint`."""

    url: str | None = Field(None, description="Base URL, such as `http://127.0.0.1:8000/v1`.")
    api_key_env: str = Field(
        "OPENAI_API_KEY", description="Environment variable that holds the key; may be unset."
    )
    concurrency: Count = Field(
        64, description="Requests in flight at once; a quarter for `scoring.judge`."
    )
    timeout_s: float = Field(
        600.0, gt=0, description="Seconds to wait for one request; a tenth for `scoring.judge`."
    )
    retries: Natural = Field(5, description="Tries again on 429, 5xx and broken connections.")
    continuation: Literal["auto", "continue_final_message", "none"] = Field(
        "auto",
        description="How a response is continued. `auto`: by tokens where the server takes them"
        " (vLLM, SGLang), else by `continue_final_message` where it leaves a turn open.",
    )


class SamplingConfig(Section):
    """What is sampled. Defaults are the paper's: 32 at temperature 1.0 (arXiv 2411.10442, 7)."""

    engine: Literal["vllm", "endpoint", "replay"] = Field("vllm", description="Who answers.")
    policy: Literal["fixed", "adaptive"] = Field(
        "fixed",
        description="`fixed`: n responses; `adaptive`: in rounds until the pairs are there.",
    )
    n: int = Field(32, ge=1, le=4096, description="Responses per seed (adaptive: at most).")
    temperature: float = Field(1.0, ge=0, le=10, description="Sampling temperature.")
    top_p: float = Field(1.0, gt=0, le=1, description="Nucleus sampling; 1 = off.")
    top_k: Natural = Field(0, description="Sample from the k likeliest tokens; 0 = off.")
    max_tokens: Count = Field(4096, description="Longest response in tokens.")
    seed: Natural = Field(0, description="Run seed; each seed's own derives from it by hash.")
    logprobs: bool | Literal["tokens"] = Field(
        False,
        description="`true`: keep each response's mean log-probability; `tokens`: its tokens, too,"
        " and reference log-probabilities for trainers.",
    )
    blind: Samples = Field(
        0,
        description="Further samples without its images, for each seed with images and a truth: do"
        " its answers need them?",
    )
    target_pairs: Count = Field(
        15, description="Adaptive: a seed has enough when it can give this many pairs."
    )
    target_kinds: Kinds = follower("pairing.kinds", default=USUAL_KINDS)
    min_distinct: Count = Field(
        1, description="Adaptive: so many different texts it has on each side, too."
    )
    target_per_response: Count | None = follower("pairing.max_per_response", default=None)
    target_gap: Natural | None = follower("pairing.max_gap", default=None)
    stop_error: Share = Field(
        0.05,
        description="Adaptive: share of the seeds with pairs that giving up early may lose.",
    )
    round: Count = fixed(2)
    """Adaptive: responses in a later round at least."""
    replay_from: str | None = Field(
        None, description="`DIR/rollouts` of an earlier build, for `sampling.engine=replay`."
    )
    endpoint: EndpointConfig = Field(default_factory=lambda: EndpointConfig())

    @property
    def traced(self) -> bool:
        """Whether tokens and reference log-probabilities are kept."""
        return self.logprobs == "tokens"


class DropoutConfig(Section):
    """DropoutNTP: cut a response, let the same model go on without the image."""

    apply: Literal["no_truth", "all", "none"] = Field(
        "no_truth", description="Which seeds get continuations: those without a truth, all, none."
    )
    keep: tuple[Ratio, ...] = Field(
        (0.5,),
        description="Part of the response kept; 0.5 is best in the paper. With several, as in"
        " `0.25,0.5,0.75`, each response is continued at each.",
    )
    part: Literal["whole", "thought", "answer"] = Field(
        "whole",
        description="Where a response that thinks is cut: anywhere, within its thought, or behind"
        " it; `keep` is then the share of that part, and what stands before it is kept.",
    )
    image: bool = Field(False, description="Show the image to the continuation (ablation).")
    max_tokens: Count | None = Field(
        None, description="Longest continuation; default: sampling.max_tokens."
    )

    @field_validator("keep", mode="before")
    @classmethod
    def _one_or_several(cls, value: object) -> object:
        value = split_commas(value)
        return value if value is None or isinstance(value, list | tuple) else (value,)

    @field_validator("keep", mode="after")
    @classmethod
    def _rising(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if not value or len(set(value)) < len(value):
            raise ValueError("name at least one ratio, and each once")
        return tuple(sorted(value))

    @field_serializer("keep")
    def _one_as_a_number(self, value: tuple[float, ...]) -> float | list[float]:
        """As it was written before there could be several: folders of that time go on."""
        return value[0] if len(value) == 1 else list(value)


class StepsConfig(Section):
    """Steps: cut a judged response at the ends of its steps, and let the same model go on with the
    image."""

    apply: Literal["none", "exact", "frugal"] = Field(
        "none",
        description="Which step goes wrong first? `exact`: `samples` continuations from each step,"
        " to train process reward models; `frugal`: until one is right, by bisection, for pairs of"
        " kind `step` at a fraction of the tokens.",
    )
    cut: str = Field(
        "lines",
        min_length=1,
        description="What ends a step: `lines`, `sentences`, or a text of your own.",
    )
    samples: int = Field(16, ge=1, le=256, description="Continuations from a step (at most).")
    responses: Count = Field(
        4, description="Responses of a seed whose steps are tried, wrong and right in turn."
    )
    faithful: Samples = Field(
        0,
        description="Continuations from the middle of each right response: how many agree tells"
        " reasons from luck. Use 4 where many answers can be guessed.",
    )

    @property
    def is_on(self) -> bool:
        """Whether any response is continued with the image."""
        return self.apply != "none" or self.faithful > 0


class JudgeConfig(Section):
    """A model behind an OpenAI-compatible server that is asked what no rule can decide."""

    url: str | None = Field(
        None, description="Base URL of a server that judges what stays undecided; unset = none."
    )
    model: str | None = Field(None, description="The model to ask there.")
    api_key_env: str = Field(
        "OPENAI_API_KEY", description="Environment variable that holds the key; may be unset."
    )
    prompt: str = Field(
        "judge_en", description="Its prompt: a shipped name or a text file, see `prompts/`."
    )
    concurrency: Count = follower("sampling.endpoint.concurrency", default=16)
    timeout_s: float = follower("sampling.endpoint.timeout_s", default=60.0, gt=0)
    retries: Natural = follower("sampling.endpoint.retries", default=3)
    max_tokens: Count = Field(
        8, description="Longest answer; one word is asked for, behind a thought if any."
    )
    open: Samples = Field(
        0,
        description="Comparisons for each open question, for pairs of kind `judged`: by the model"
        " at `url`, without it by the engine that samples. It sees the pictures. Use 8 where no"
        " rule can tell which answer is better.",
    )


class ScoringConfig(Section):
    """How responses are judged."""

    scorer: ScorerName = Field("auto", description="Scorer where a source does not fix one.")
    timeout_s: float = Field(2.0, gt=0, le=60, description="Limit for one symbolic comparison.")
    # Of one symbolic worker; more time to compare wants more room.
    memory_mb: int = follower(
        "scoring.timeout_s",
        default_factory=lambda found: max(1024, int(512 * found.get("timeout_s", 0))),
        ge=256,
    )
    unusable_truth: Literal["drop", "open"] = Field(
        "drop",
        description="A seed with no usable truth: drop it before sampling, or treat it as without.",
    )
    labels: str | None = Field(
        None, description="File of labels for undecided answers, as saved from a report."
    )
    judge: JudgeConfig = Field(default_factory=lambda: JudgeConfig())


class PairingConfig(Section):
    """Which pairs are made of judged responses."""

    max_per_seed: Count = Field(15, description="Pairs per seed at most (the paper's 15).")
    kinds: Kinds = Field(
        USUAL_KINDS,
        description="Kinds to make; add `truncated` to use responses cut at max_tokens, `step` for"
        " those of `steps.apply`, `judged` for those of `scoring.judge.open`.",
    )
    seed: Natural = Field(0, description="Breaks ties between equally good pairs.")
    max_per_response: Count | None = Field(
        None,
        description="Pairs of a seed that one text may stand in on the same side; set it where a"
        " few texts would fill most pairs of hard and easy questions.",
    )
    rejected_first: Literal["spread", "frequent_answer", "distinct_answers"] = Field(
        "spread",
        description="Wrong responses that come first. `spread`: all in turn; `frequent_answer`:"
        " those with the commonest wrong answer, to work on what the model mistakes most;"
        " `distinct_answers`: each wrong answer once before any twice, for variety.",
    )
    partner: Literal["spread", "shared_prefix", "like_length", "faithful"] = Field(
        "spread",
        description="Right responses that they meet. `shared_prefix`: that with the longest common"
        " beginning, so that a pair differs from the error on; `like_length`: that nearest in"
        " tokens, where lengths tell right from wrong; `faithful`: the most faithful ones first"
        " (`steps.faithful`).",
    )
    max_gap: Natural | None = Field(
        None,
        description="Tokens by which chosen and rejected may differ in length at most; set it where"
        " single pairs of very unlike length must not be there at all.",
    )
    shares: dict[Kind, Weight] = Field(
        default_factory=dict,
        description="Shares of kinds among the pairs of a seed, such as {correctness: 0.6, format:"
        " 0.1, dropout_ntp: 0.3}, for a recipe that fixes the mix; what a kind lacks others fill.",
    )
    reject_list: str | None = Field(
        None, description="File of pair ids to leave out, as saved from a report."
    )
    chosen_from: Names = Field(
        (), description="Models that may write the chosen side, as `model` names them; none: all."
    )
    rejected_from: Names = Field(
        (),
        description="The same for the rejected side; `rollouts` pools builds of several models.",
    )

    @model_validator(mode="after")
    def _shares_of_kinds_that_are_made(self) -> PairingConfig:
        unmade = [kind for kind in self.shares if kind not in self.kinds]
        if unmade:
            raise ValueError(
                f"shares names {', '.join(unmade)}, which kinds does not make: add it there"
            )
        if self.shares and not any(self.shares.values()):
            raise ValueError("shares are all 0: give at least one kind a share, or leave it out")
        return self


class DecontaminateConfig(Section):
    """Evaluation sets that must not be trained on; see `quality/contamination.py`."""

    against: Names = Field(
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
    question_similarity: Share = Field(
        0.4,
        description="Share of words in common that counts beside the same picture. A question alone"
        " may lack a third of what is missing here: 0.8 is its share with 0.4.",
    )
    # Where a question stands alone, without a picture.
    text_similarity: Share = follower(
        "quality.decontaminate.question_similarity",
        default_factory=lambda found: round(1 - (1 - found.get("question_similarity", 0)) / 3, 6),
    )
    question_words: int = fixed(12, ge=4)
    """Shortest question that counts alone; two Chinese characters are one."""
    unreadable: Literal["stop", "skip"] = Field(
        "stop", description="What to do with a row of them that cannot be read, hence not found."
    )


class BalanceConfig(Section):
    """What must not tell chosen from rejected over a build; see `pairing/balance.py`."""

    lengths: bool = Field(
        False,
        description="Balance which side is the longer one, gap by gap, by kind and source; use it"
        " when the report shows one side longer, or the trained model's answers grow or shrink.",
    )
    answers: bool = Field(
        False,
        description="Balance how often yes, no and letters of options are chosen and rejected, by"
        " source; use it when the report shows an answer more often on one side.",
    )
    shares: dict[Kind, Weight] = Field(
        default_factory=dict,
        description="Shares of kinds among all pairs, such as {correctness: 0.7, dropout_ntp: 0.3};"
        " use it for a recipe that fixes the mix, as `pairing.shares` does within a seed.",
    )
    tolerance: Share = fixed(0.02)
    """Difference that counts as none: share of the mean length, or of the pairs with such
    answers."""
    floor: Share = Field(
        0.5,
        description="Share of the pairs that stays at least; what leans further than leaving out"
        " the others could mend stays as it is, and is reported.",
    )

    @property
    def is_on(self) -> bool:
        """Whether pairs of the whole build decide which of them stay."""
        return self.lengths or self.answers or any(self.shares.values())


class QualityConfig(Section):
    """Controls that drop seeds, responses or continuations; all off unless asked for."""

    balance: BalanceConfig = Field(default_factory=lambda: BalanceConfig())
    pass_rate: Annotated[tuple[Share, Share], BeforeValidator(split_commas)] = Field(
        (0.0, 1.0),
        exclude=True,
        description="Drop seeds whose share of right responses is not within these bounds;"
        " `0.2,0.8` leaves out what is too hard yet, or wrong itself, and what the model knows"
        " already.",
    )
    min_pass_rate: Share = follower(
        "quality.pass_rate", default_factory=lambda found: found.get("pass_rate", (0, 1))[0]
    )
    max_pass_rate: Share = follower(
        "quality.pass_rate", default_factory=lambda found: found.get("pass_rate", (0, 1))[1]
    )
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
    max_blind: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="Drop seeds solved without their images more often than this, luck taken off"
        " (0 is guessing); unset only marks. Use 0.3 with `sampling.blind=8` where pairs shall"
        " teach to look.",
    )
    suspect_truths: bool = Field(
        False,
        description="Drop seeds whose responses clearly agree on another answer than the truth; use"
        " it where truths were not checked by hand, with a model that is often right.",
    )
    min_faithful: Share = Field(
        0.0,
        description="No right response is chosen from whose middle a smaller share gets to the same"
        " answer; 0.5 leaves out most lucky guesses. Needs `steps.faithful`.",
    )
    distinct: float | None = Field(
        None,
        gt=0.5,
        le=1,
        description="Responses with this share of words in common on one side count once; 0.95 is a"
        " start for models that repeat themselves.",
    )

    @model_validator(mode="after")
    def _band_has_room(self) -> QualityConfig:
        low, high = self.__dict__["pass_rate"] = (self.min_pass_rate, self.max_pass_rate)
        if low > high:
            raise ValueError(f"pass_rate: {low} is above {high}: no seed could stay")
        return self


class OutputConfig(Section):
    """How Parquet is written."""

    shard_bytes: int = Field(512 * 2**20, ge=2**16, description="New file after this many bytes.")
    # An eighth of a file, 64 MiB at most.
    row_group_bytes: int = follower(
        "output.shard_bytes",
        default_factory=lambda found: min(max(found.get("shard_bytes", 0) // 8, 2**14), 2**26),
        ge=2**14,
    )


class DistributedConfig(Section):
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
    unit_queries: int = Field(
        64, ge=1, le=4096, description="Seeds in one unit of work; with 4 MiB of images for each."
    )
    unit_bytes: int = follower(
        "distributed.unit_queries",
        default_factory=lambda found: 4 * 2**20 * found.get("unit_queries", 1),
        ge=2**20,
    )
    units_in_flight: Count = Field(4, description="Units open in one engine at a time.")
    grace_s: float = Field(
        10,
        ge=0,
        le=3600,
        allow_inf_nan=False,
        description="On SIGINT or SIGTERM wait so long for seeds under way; a second one ends it.",
    )
    max_tries: Count = fixed(3)
    """Tries of a unit before it is split."""
    scoring_workers: int | Literal["auto"] = Field("auto", description="Processes that score.")


class LimitsConfig(Section):
    """What sampling may take in all runs of a build; there it stops, and a higher limit goes on."""

    tokens: Count | None = Field(
        None,
        description="Generated tokens; seeds under way then have grace_s to end.",
    )
    hours: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="Hours of sampling by the clock, all engines."
    )
