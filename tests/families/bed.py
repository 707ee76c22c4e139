"""The test bed: each family with its tiny model, and its prompts without an engine.

Run as a program it writes the table of docs/models.md.

    with prompts_of(FAMILIES["glm_4_1v"], folder) as prompts: …    a second, no weights

What vLLM asks about a model's class it asks here in this process: a new one for each class takes
half a minute on a busy machine.
"""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tiny_models
from PIL import Image

from mmpr_builder.config import Config, load_config
from mmpr_builder.engines import arguments, budgets
from mmpr_builder.engines.rendering import Prompts, Trial
from mmpr_builder.engines.server import shown
from mmpr_builder.io.images import open_image

SIDE = 1_400
"""Pixels of the picture that budgets are tried on."""


@dataclass(frozen=True)
class Family:
    """A family, and what its prompts are to be."""

    title: str
    make: Callable[..., Path]
    model: str
    """The class that its configuration names."""
    own: bool = True
    """There is a processor of its own to compare with: transformers', or mistral-common's."""
    several: bool = True
    """vLLM treats each of several pictures as that processor does."""
    tokens: tuple[int, int, int] | None = None
    """Image tokens of a picture of `SIDE` pixels with budgets of 1, 6 and 12 tiles; None where
    there is no budget for each source."""
    image: str = "<image>"
    """The token that stands for a piece of a picture."""
    picture: str = ""
    """What the chat template of one without such a processor writes for a picture."""
    written: str = ""
    """What is written for picture {} before a chat template that takes text alone."""
    engine: bool = False
    """The real engine answers, too."""
    settings: tuple[str, ...] = ()
    notes: str = ""


def _family(make: Callable[..., Path], title: str, model: str, **more: Any) -> tuple[str, Family]:
    return make.__name__, Family(title, make, model, **more)


FAMILIES: dict[str, Family] = dict(
    [
        _family(
            tiny_models.internvl_hf,
            "InternVL 3, `-hf` layout",
            "InternVLForConditionalGeneration",
            image="<IMG_CONTEXT>",
            tokens=(256, 1280, 2560),
            engine=True,
        ),
        _family(
            tiny_models.internvl_chat,
            "InternVL 2.5 and 3 on Qwen2",
            "InternVLChatModel",
            own=False,
            image="<IMG_CONTEXT>",
            picture="<image>",
            tokens=(256, 1280, 2560),
            engine=True,
            settings=("engine.trust_remote_code=true",),
        ),
        _family(
            tiny_models.internvl_chat_qwen3,
            "InternVL 3.5 on Qwen3",
            "InternVLChatModel",
            own=False,
            image="<IMG_CONTEXT>",
            picture="<image>",
            tokens=(256, 1280, 2560),
            settings=("engine.trust_remote_code=true",),
        ),
        _family(
            tiny_models.internvl_chat_internlm2,
            "InternVL 2 on InternLM2",
            "InternVLChatModel",
            own=False,
            image="<IMG_CONTEXT>",
            picture="<image>",
            tokens=(256, 1280, 2560),
            settings=("engine.trust_remote_code=true",),
        ),
        _family(
            tiny_models.qwen2_5_vl,
            "Qwen2.5-VL",
            "Qwen2_5_VLForConditionalGeneration",
            image="<|image_pad|>",
            tokens=(256, 1521, 2500),
            engine=True,
        ),
        _family(
            tiny_models.qwen3_vl,
            "Qwen3-VL",
            "Qwen3VLForConditionalGeneration",
            image="<|image_pad|>",
            tokens=(196, 1156, 1936),
        ),
        _family(
            tiny_models.qwen3_vl_thinking,
            "Qwen3-VL Thinking",
            "Qwen3VLForConditionalGeneration",
            image="<|image_pad|>",
            tokens=(196, 1156, 1936),
            notes="the prompt opens the thought",
        ),
        _family(
            tiny_models.llava_1_5,
            "LLaVA-1.5",
            "LlavaForConditionalGeneration",
            engine=True,
            notes="one size of pictures; its template puts them first",
        ),
        _family(
            tiny_models.llava_next,
            "LLaVA-NeXT",
            "LlavaNextForConditionalGeneration",
            notes="no budget for each source (above); its template puts pictures first",
        ),
        _family(
            tiny_models.llava_onevision,
            "LLaVA-OneVision",
            "LlavaOnevisionForConditionalGeneration",
            several=False,
            notes="no budget for each source (above); vLLM cuts each of several pictures; over"
            " 7,000 tokens for a large one",
        ),
        _family(
            tiny_models.gemma3,
            "Gemma 3",
            "Gemma3ForConditionalGeneration",
            image="<image_soft_token>",
            notes="one size of pictures",
        ),
        _family(
            tiny_models.idefics3,
            "Idefics3",
            "Idefics3ForConditionalGeneration",
            tokens=(169, 845, 1690),
            engine=True,
        ),
        _family(
            tiny_models.smolvlm2,
            "SmolVLM2",
            "SmolVLMForConditionalGeneration",
            tokens=(64, 320, 640),
            notes="needs `pip install num2words`",
        ),
        _family(
            tiny_models.glm_4_1v,
            "GLM-4.1V Thinking",
            "Glm4vForConditionalGeneration",
            image="<|image|>",
            tokens=(256, 1521, 2500),
            notes="the prompt opens the thought",
        ),
        _family(
            tiny_models.pixtral_hf,
            "Pixtral, `-hf` layout",
            "LlavaForConditionalGeneration",
            image="[IMG]",
            notes="no budget for each source (above)",
        ),
        _family(
            tiny_models.pixtral,
            "Pixtral, Mistral's format",
            "PixtralForConditionalGeneration",
            image="[IMG]",
            notes="no budget for each source (above); pictures go as data URLs",
        ),
        _family(
            tiny_models.mistral3,
            "Mistral Small 3",
            "Mistral3ForConditionalGeneration",
            image="[IMG]",
            tokens=(256, 1600, 2500),
        ),
        _family(
            tiny_models.llama4,
            "Llama 4",
            "Llama4ForConditionalGeneration",
            image="<|patch|>",
            notes="one budget for all sources",
        ),
        _family(
            tiny_models.kimi_vl,
            "Kimi-VL",
            "KimiVLForConditionalGeneration",
            own=False,
            image="<|media_pad|>",
            picture="<|media_pad|>",
            settings=("engine.trust_remote_code=true",),
            notes="processor in its shape; one budget for all sources",
        ),
        _family(
            tiny_models.minicpm_v,
            "MiniCPM-V 2.6",
            "MiniCPMV",
            own=False,
            image="<unk>",
            picture="(<image>./</image>)",
            settings=("engine.trust_remote_code=true",),
            notes="processor in its shape; one budget for all sources",
        ),
        _family(
            tiny_models.phi4_multimodal,
            "Phi-4-multimodal",
            "Phi4MMForCausalLM",
            image="<|endoftext10|>",
            written="<|image_{}|>",
            tokens=(545, 1329, 2625),
            settings=("engine.trust_remote_code=true",),
            notes="as released; vLLM serves the layout of transformers no more",
        ),
    ]
)
WITH_BUDGETS = [name for name, family in FAMILIES.items() if family.tokens]
ONE_FOR_ALL = [name for name, family in FAMILIES.items() if "one budget" in family.notes]
WITHOUT = [name for name in FAMILIES if name not in (*WITH_BUDGETS, *ONE_FOR_ALL)]


ONE, LARGER = [[336, 336]], [[384, 384]]
BY_HAND: dict[str, tuple[dict[str, Any], dict[str, dict[str, Any]]]] = {
    "llava_next": (
        {"image_grid_pinpoints": ONE},
        {
            "config.json": {"image_grid_pinpoints": ONE},
            "processor_config.json": {"image_processor": {"image_grid_pinpoints": ONE}},
        },
    ),
    "llava_onevision": (
        {"image_grid_pinpoints": LARGER},
        {
            "config.json": {"image_grid_pinpoints": LARGER},
            "processor_config.json": {"image_processor": {"image_grid_pinpoints": LARGER}},
        },
    ),
    "pixtral_hf": (
        {"size": {"longest_edge": 448}},
        {
            "config.json": {"vision_config": {"image_size": 448}},
            "processor_config.json": {"image_processor": {"size": {"longest_edge": 448}}},
        },
    ),
    "pixtral": (
        {"max_image_size": 448},
        {"tekken.json": {"multimodal": {"max_image_size": 448}}},
    ),
}
"""Families without a budget: what a request could say, and what their files have to say to make all
pictures smaller."""


def edit(folder: Path, files: dict[str, dict[str, Any]]) -> Path:
    """Change what the files of a model say."""

    def merged(old: Any, new: Any) -> Any:
        if not isinstance(new, dict):
            return new
        return {**old, **{key: merged(old.get(key, {}), value) for key, value in new.items()}}

    for name, changes in files.items():
        told = json.loads((folder / name).read_text(encoding="utf-8"))
        (folder / name).write_text(json.dumps(merged(told, changes)), encoding="utf-8")
    return folder


def ask(name: str, folder: Path, *words: str) -> Config:
    """Settings that name a family's model, which is made if it is not there."""
    family = FAMILIES[name]
    if not folder.exists():
        family.make(folder, weights=False)
    return load_config(None, [f"model={folder}", *family.settings, *words])


def prepared(config: Config) -> tuple[Any, Trial]:
    """What is found before a model is loaded; its class is looked at in this process."""
    arguments.quiet_environment()
    from vllm.model_executor.models import registry

    from mmpr_builder.engines.vllm import prepare

    registry._run_in_subprocess = lambda look: look()
    return prepare(config)


@contextlib.contextmanager
def prompts_of(config: Config) -> Iterator[Prompts]:
    """What renders the prompts of a model, without an engine."""
    from types import SimpleNamespace

    from mmpr_builder.engines import vllm_internals

    whole, _ = prepared(config)
    with vllm_internals.renderer_of(whole) as renderer:
        yield Prompts(config, SimpleNamespace(renderer=renderer, model_config=whole.model_config))


def trial(config: Config) -> Trial:
    """What its prompts look like."""
    return prepared(config)[1]


def picture(width: int = 300, height: int = 200) -> bytes:
    """A picture as it lies on disk."""
    file = io.BytesIO()
    Image.new("RGB", (width, height), (200, 40, 40)).save(file, "PNG")
    return file.getvalue()


def data_url(data: bytes) -> str:
    """It as a server is sent it."""
    return str(shown(open_image(data))["image_url"]["url"])


PAGE = Path(__file__).parents[2] / "docs" / "models.md"


def table() -> str:
    """What docs/models.md says of the families."""
    lines = [
        "| family | class | tested | a budget sets | tokens with 1, 6, 12 tiles | notes |",
        "|---|---|---|---|--:|---|",
    ]
    for family in FAMILIES.values():
        sizes = load_config(None, ["images.tiles=12"]).images
        given = budgets.processor_arguments(sizes, 12, [family.model])
        keys = f"`{next(iter(given))}`" if given else "—"
        tokens = ", ".join(f"{n:,}" for n in family.tokens or ())
        tested = ("ids" if family.own else "prompts") + (", engine" if family.engine else "")
        cells = (family.title, f"`{family.model}`", tested, keys, tokens, family.notes)
        lines.append(f"| {' | '.join(cells)} |".replace("|  |", "| |"))
    return "\n".join(lines)


def with_table(page: str) -> str:
    """The page with the table between its marks."""
    opening, closing = "<!-- families", "<!-- /families -->"
    before = page[: page.index(opening)]
    first = page[page.index(opening) :].partition("\n")[0]
    return f"{before}{first}\n\n{table()}\n\n{page[page.index(closing) :]}"


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
