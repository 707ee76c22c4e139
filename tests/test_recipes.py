"""The shipped recipes of MMPR: 22 sources as data, each with what people need to know of it."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from commands import mmpr
from openai_server import OpenAIServer, choices, examined
from public_layouts import SOURCES, make_all, picture

from mmpr_builder import runs, stages
from mmpr_builder.config import Config, LayoutName, load_config, sampling_identity, tiles_for
from mmpr_builder.engines import budgets, rendering
from mmpr_builder.engines.endpoint import EndpointSampler
from mmpr_builder.errors import ConfigError, InputError
from mmpr_builder.escaping import redacted
from mmpr_builder.prompts import load_templates
from mmpr_builder.records import Drop, Seed
from mmpr_builder.sampling import Request, request_for
from mmpr_builder.seeds import check_sources
from mmpr_builder.seeds.layouts import LAYOUTS
from mmpr_builder.seeds.roles import ALIASES

RECIPES = ("mmpr_v1", "mmpr_v1_2")
# Planned with a model that is there; nothing is sampled.
OFFLINE = ("model=demo", "engine={}", "images.family=null")


def planned(folder: Path, recipe: str, *more: str) -> tuple[Config, list[Seed | Drop]]:
    words = [f"data={folder}", f"out={folder}/out", *OFFLINE, *more]
    config = load_config(recipe, words)
    return config, list(runs.read_inputs(config))


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_has_all_22_sources_and_says_what_people_need(recipe: str) -> None:
    config = load_config(recipe)
    assert {source.name for source in config.seeds} == set(SOURCES)
    domains = Counter(source.domain for source in config.seeds)
    assert domains == {
        "general": 4, "science": 3, "chart": 3, "math": 6, "ocr": 5, "document": 1
    }  # fmt: skip
    for source in config.seeds:
        assert all((source.license, source.get, source.tiles, source.forbidden_splits))
        assert source.license is not None
        assert "unknown" not in source.license or "unknown, see " in source.license
        for told in (source.license, source.get):  # Messages cut the queries of URLs.
            assert redacted(told) == told
        assert source.split not in source.forbidden_splits
        assert source.branch in ("both", "dropout")
    load_templates(config)
    budgets.check(config)


def test_the_recipes_have_the_settings_of_both_releases() -> None:
    first, second = (load_config(recipe) for recipe in RECIPES)
    for config, temperature, top_k, style, limit in (
        (first, 1.0, 0, "final_answer", None),
        (second, 0.7, 50, "boxed", 7000),
    ):
        assert (config.sampling.n, config.sampling.max_tokens) == (32, 4096)
        assert (config.sampling.temperature, config.sampling.top_k) == (temperature, top_k)
        assert config.prompts.style == style
        assert {source.limit for source in config.seeds} == {limit}
        assert (config.pairing.max_per_seed, config.dropout.keep) == (15, (0.5,))
    assert {tiles_for(first, name) for name in SOURCES} == {6, 12}
    assert {tiles_for(second, name) for name in SOURCES} == {6, 12, 18, 24}
    for source in first.seeds:
        assert (source.branch == "dropout") == (source.domain in ("general", "document"))


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_row_of_all_22_sources_is_a_seed_or_a_drop(tmp_path: Path, recipe: str) -> None:
    expected = make_all(tmp_path)
    config, items = planned(tmp_path, recipe)
    by_name = {source.name: source for source in config.seeds}
    found = Counter((i.source, i.has_truth) for i in items if isinstance(i, Seed))
    for name, want in expected.items():
        branch = by_name[name].branch
        truths = want.truths if branch == "both" else 0
        assert found[name, True] == truths
        assert found[name, False] == want.rows - want.text_only
    drops = Counter(item.reason for item in items if isinstance(item, Drop))
    wanted: Counter[str] = Counter()
    for want in expected.values():
        wanted.update(want.drops)
    assert drops == wanted
    ids = [item.id if isinstance(item, Seed) else item.item_id for item in items]
    assert len(set(ids)) == len(ids)


def test_a_plan_checks_and_counts_all_sources(tmp_path: Path) -> None:
    make_all(tmp_path)
    config, items = planned(tmp_path, "mmpr_v1")
    estimate = stages.plan(config)
    found = [item for item in items if isinstance(item, Seed)]
    assert estimate.seeds == len(found)
    assert estimate.with_truth == sum(seed.has_truth for seed in found)
    assert sum(estimate.drops.values()) == len(items) - len(found)


def test_all_missing_sources_are_told_at_once_with_how_to_get_them(tmp_path: Path) -> None:
    make_all(tmp_path)
    config, _ = planned(tmp_path, "mmpr_v1")
    (tmp_path / "docvqa" / "train_v1.0_withQT.json").unlink()
    (tmp_path / "gqa" / "train_balanced_questions.json").unlink()
    with pytest.raises(InputError) as caught:
        check_sources(config.seeds)
    text = str(caught.value)
    for name, get in (("gqa", "dorarad"), ("docvqa", "rrc.cvc.uab.es")):
        assert f"source {name!r}: " in text
        assert get in text
    assert "get it: " in text
    assert "2 of 22 sources" in text
    assert "source 'vqav2'" not in text


def test_sources_picks_some_by_name(tmp_path: Path) -> None:
    make_all(tmp_path)
    config, items = planned(tmp_path, "mmpr_v1", "sources=sroie,ai2d")
    assert [source.name for source in config.seeds] == ["ai2d", "sroie"]
    assert {item.source for item in items if isinstance(item, Seed)} == {"ai2d", "sroie"}
    with pytest.raises(ConfigError, match=r"'chartq' is none of the 22 .*nearest is 'chartqa'"):
        load_config("mmpr_v1", ["sources=[ai2d,chartq]"])


def test_a_source_is_a_few_lines_and_one_is_changed_by_name(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(
        "base: mmpr_v1\nsources: [mine, ai2d]\nseeds:\n  mine: {path: '{data}/m.jsonl', limit: 3}\n"
    )
    words = ["seeds.ai2d.limit=7", "seeds.4.tiles=9", "data=/d"]
    ai2d, mine = load_config(tmp_path / "mine.yaml", words).seeds
    assert (ai2d.name, ai2d.limit, ai2d.tiles, ai2d.path) == ("ai2d", 7, 9, "/d/ai2d")
    assert (mine.name, mine.limit, mine.path) == ("mine", 3, "/d/m.jsonl")
    with pytest.raises(ConfigError, match=r"seeds.ai2d.tile'.*nearest valid key is 'seeds.N.tiles"):
        load_config("mmpr_v1", ["seeds.ai2d.tile=3"])


def test_an_audit_tells_missing_sources_like_a_build(tmp_path: Path) -> None:
    words = ["audit", "mmpr_v1", f"data={tmp_path}", "sources=[chartqa,ai2d]"]
    done = mmpr(*words)
    assert done.returncode == 2
    assert done.stderr.count("get it: ") == 2
    assert "2 of 2 sources" in done.stderr


def test_one_question_can_be_asked_with_several_templates(tmp_path: Path) -> None:
    (tmp_path / "c.jsonl").write_text(
        '{"id": "q1", "question": "How high is the first bar?", "answer": "3"}\n'
    )
    (tmp_path / "two.yaml").write_text(
        "seeds:\n"
        f"  charts: {{path: {tmp_path}/c.jsonl, template: {{plain: 1}}}}\n"
        f"  charts_seen: {{path: {tmp_path}/c.jsonl, template: {{visual: 1}}}}\n"
    )
    config = load_config(tmp_path / "two.yaml", [f"out={tmp_path}/out"])
    templates = load_templates(config)
    asked = {
        seed.id: templates.pick(seed).name
        for seed in runs.read_inputs(config)
        if isinstance(seed, Seed)
    }
    assert asked == {"q1": "final_answer_en", "q1#2": "visual_final_answer_en"}


def test_a_recipe_cannot_be_its_own_base(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("base: b.yaml\n")
    (tmp_path / "b.yaml").write_text("base: a.yaml\n")
    with pytest.raises(ConfigError, match="give another recipe"):
        load_config(tmp_path / "a.yaml")


def test_what_decides_rollouts_is_in_the_identity_and_facts_are_not() -> None:
    names = {key.split(".", 2)[2] for key in sampling_identity(load_config("mmpr_v1"))
             if key.startswith("seeds.")}  # fmt: skip
    assert {"tiles", "branch", "domain", "format", "language"} <= names
    assert not {"license", "get", "forbidden_splits", "scorer"} & names


def test_the_page_on_seeds_names_every_layout_and_its_example_is_one() -> None:
    page = (Path(__file__).parents[1] / "docs" / "seeds.md").read_text(encoding="utf-8")
    assert set(LAYOUTS) | {"auto", "conversations"} == set(get_args(LayoutName))
    assert all(f"| `{name}` |" in page for name in LAYOUTS)
    (example,) = re.findall(r"^```yaml\n(.*?)^```", page, flags=re.S | re.M)
    given = yaml.safe_load(example)["seeds"]
    Config.model_validate({"seeds": given})
    for names in ALIASES.values():
        assert all(f"`{name}`" in page for name in names)


# ---- tile budgets

QWEN, HF, CHAT = (
    "Qwen2_5_VLForConditionalGeneration",
    "InternVLForConditionalGeneration",
    ("InternVLChatModel"),
)
BUDGETS: list[tuple[dict[str, Any], int | None, str, dict[str, Any]]] = [
    ({}, 12, CHAT, {"max_dynamic_patch": 12}),
    ({}, 12, HF, {"max_patches": 12}),
    ({}, 6, QWEN, {"max_pixels": 6 * 448 * 448}),
    ({}, 4, "Mistral3ForConditionalGeneration", {"size": {"longest_edge": 896}}),
    ({}, 12, "Idefics3ForConditionalGeneration", {"size": {"longest_edge": 3 * 364}}),
    ({}, None, CHAT, {}),
    ({}, 12, "SomethingNewForCausalLM", {}),
    ({"pixels": 500_000}, None, QWEN, {"max_pixels": 500_000}),
    ({"pixels": 500_000}, None, HF, {"max_patches": 2}),
    ({"pixels": 500_000}, 1, QWEN, {"max_pixels": 448 * 448}),
    ({"family": "internvl"}, 12, "SomethingNew", {"max_dynamic_patch": 12}),
    ({"family": "internvl"}, 12, HF, {"max_patches": 12}),
    ({"family": "qwen_vl"}, 6, HF, {"max_pixels": 6 * 448 * 448}),
    ({"family": {"max_crops": "{tiles}", "fast": True}}, 4, QWEN, {"max_crops": 4, "fast": True}),
    ({"family": {"size": {"longest_edge": "{pixels}"}}}, 1, "", {"size": {"longest_edge": 448**2}}),
]


@pytest.mark.parametrize(("images", "tiles", "model", "given"), BUDGETS)
def test_a_budget_is_told_as_the_model_s_class_takes_it_unless_the_family_is_set(
    images: dict[str, Any], tiles: int | None, model: str, given: dict[str, Any]
) -> None:
    config = Config.model_validate({"images": images})
    assert budgets.processor_arguments(config.images, tiles, [model]) == given


def test_who_sets_a_budget_is_known(tmp_path: Path) -> None:
    assert not load_config("mmpr_v1_2").images.asked
    assert load_config("mmpr_v1_2", ["seeds.ai2d.tiles=3"]).images.asked
    assert load_config(None, ["seeds=[{path: a, name: a, tiles: 3}]"]).images.asked
    mine = tmp_path / "mine.yaml"
    mine.write_text("base: mmpr_v1_2\n")
    assert not load_config(mine).images.asked
    mine.write_text("base: mmpr_v1_2\nimages: {pixels: 1000000}\n")
    assert load_config(mine).images.asked
    assert "images.asked" not in sampling_identity(load_config(mine))


def picture_bytes(folder: Path) -> bytes:
    picture(folder / "a.png")
    return (folder / "a.png").read_bytes()


def two_sources(**more: Any) -> Config:
    seeds = [{"path": "a", "name": "a", "tiles": 6}, {"path": "b", "name": "b"}]
    images = {"tiles": 18}
    return Config.model_validate({"seeds": seeds, "images": images, **more})


def test_the_engine_has_room_for_the_largest_budget_of_any_source() -> None:
    hf, chat = ["InternVLForConditionalGeneration"], ["InternVLChatModel"]
    assert budgets.engine_arguments(two_sources(), hf) == {
        "mm_processor_kwargs": {"max_patches": 18}
    }
    assert budgets.engine_arguments(two_sources(), chat) == {
        "hf_overrides": {"max_dynamic_patch": 18}
    }
    own = two_sources(engine={"mm_processor_kwargs": {"use_fast": True}})
    assert budgets.engine_arguments(own, hf) == {
        "mm_processor_kwargs": {"max_patches": 18, "use_fast": True}
    }
    assert budgets.engine_arguments(two_sources(), ["SomethingNew"]) == {}
    seeds = [{"path": "a", "name": "a"}]
    assert budgets.engine_arguments(two_sources(images={}, seeds=seeds), hf) == {}


def test_budgets_that_cannot_all_be_kept_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"sources b have no `tiles`.*set images.tiles"):
        budgets.check(two_sources(images={}))
    given = {"mm_processor_kwargs": {"max_patches": 3}}
    with pytest.raises(ConfigError, match=r"max_patches is set by the image budget, too"):
        budgets.check(two_sources(engine=given), [HF])
    with pytest.raises(ConfigError, match=r"2 image budgets, and vLLM takes one.*same `tiles`"):
        budgets.check(two_sources(), ["Llama4ForConditionalGeneration"])
    with pytest.raises(ValueError, match="both `tiles` and `pixels`"):
        two_sources(images={"tiles": 3, "pixels": 1_000})


def test_a_source_with_a_budget_needs_a_name() -> None:
    with pytest.raises(ValueError, match="needs a `name`"):
        Config.model_validate({"seeds": [{"path": "a.jsonl", "tiles": 6}]})


class FakeRenderer:
    """Notes what each prompt is rendered with; answers as vLLM's does."""

    def __init__(self) -> None:
        self.extras: list[Any] = []

    async def render_chat_async(
        self, messages: Any, chat: Any, tokenize: Any, *, prompt_extras: Any = None
    ) -> tuple[Any, Any]:
        self.extras.append(prompt_extras)
        return messages, [{"prompt_token_ids": [1]}]


def test_a_server_is_told_the_budget_where_there_is_one(tmp_path: Path) -> None:
    picture = picture_bytes(tmp_path)

    async def ask(config: Config) -> None:
        sampler = EndpointSampler(config)
        for images in ((picture,), ()):
            text = "<image>" * len(images) + "Q"
            request = request_for(Seed("1", text, source="a"), text, images, config)
            async for _ in sampler.sample(request):
                pass
        await sampler.close()

    def counting(path: str, body: dict[str, Any]) -> tuple[int, Any]:
        status, reply = examined(path, body)
        if "mm_processor_kwargs" in body:
            reply["usage"]["prompt_tokens"] += sum(body["mm_processor_kwargs"].values())
        return status, reply

    with OpenAIServer(lambda _: (200, choices("yes"))) as server:
        server.examined = counting
        sampling = {"n": 1, "endpoint": {"url": server.url}}
        for images in ({"family": "internvl", "tiles": 18}, {}):
            asyncio.run(ask(two_sources(model="org/vlm", sampling=sampling, images=images)))
    told = [body.get("mm_processor_kwargs") for body in server.bodies]
    assert told == [{"max_dynamic_patch": 6}, None, None, None]


def test_a_server_s_model_has_no_class_so_a_budget_needs_a_family() -> None:
    with pytest.raises(ConfigError, match=r"a server does not say.*set images\.family"):
        budgets.check_named(two_sources())
    budgets.check_named(two_sources(images={"family": "internvl", "tiles": 18}))


def test_each_seed_is_shown_at_the_budget_of_its_source(tmp_path: Path) -> None:
    picture = picture_bytes(tmp_path)
    config = two_sources()
    fake = FakeRenderer()
    prompts = object.__new__(rendering.Prompts)
    prompts._renderer, prompts._images, prompts._limit = fake, config.images, 4
    prompts._chat = prompts._tokenize = None
    prompts._rendering, prompts._architectures = asyncio.Semaphore(1), [HF]
    prompts._by_url, prompts._keeps_budgets = False, True

    async def show_all() -> None:
        for name, images in (("a", (picture,)), ("b", (picture,)), ("a", ())):
            text = "<image>\n" * len(images) + "How many?"
            request: Request = request_for(Seed(name, text, source=name), text, images, config)
            await prompts.shown(request)

    asyncio.run(show_all())
    assert fake.extras == [
        {"mm_processor_kwargs": {"max_patches": 6}},
        {"mm_processor_kwargs": {"max_patches": 18}},
        None,
    ]
