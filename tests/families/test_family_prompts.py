"""Prompts of every family, without an engine: ids, pictures, budgets, the blind prompt."""

from __future__ import annotations

import asyncio
import io
import itertools
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bed import (
    FAMILIES,
    ONE_FOR_ALL,
    PAGE,
    SIDE,
    WITH_BUDGETS,
    WITHOUT,
    ask,
    data_url,
    picture,
    prompts_of,
    trial,
    with_table,
)
from PIL import Image

from mmpr_builder.config import load_config
from mmpr_builder.dropout import cut_tokens
from mmpr_builder.engines import check_images, vllm_internals
from mmpr_builder.engines.rendering import Prompts
from mmpr_builder.engines.vllm import _how_to_install
from mmpr_builder.errors import ConfigError, InputError, RowError
from mmpr_builder.prompts import parts
from mmpr_builder.sampling import Request
from mmpr_builder.stages import plan

PARTS = {
    "one picture": ("<image>\nHow many red shapes?", 1),
    "inline": ("In <image> and in <image> is red: which?", 2),
    "none": ("How many red shapes?", 0),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("families")
    yield folder
    shutil.rmtree(folder)


def rendered(prompts: Prompts, prompt: str, *pictures: bytes, tiles: int | None = None) -> Any:
    request = Request(id="a", prompt=prompt, images=pictures, tiles=tiles)
    return asyncio.run(prompts.shown(request))["prompt_token_ids"]


def own_ids(name: str, folder: Path, prompt: str, *pictures: bytes, begun: str = "") -> list[int]:
    """The ids that the family's own processor makes of the same conversation, with `begun` behind
    what opens the assistant's turn."""
    import torch
    from transformers import AutoProcessor

    if name == "pixtral":
        return mistral_ids(folder, prompt, *pictures, begun=begun)
    mark = FAMILIES[name].written
    processor = AutoProcessor.from_pretrained(folder, trust_remote_code=bool(mark))
    opened = [Image.open(io.BytesIO(data)) for data in pictures]
    if mark:  # Its template takes text alone, which vLLM joins so.
        number = itertools.count(1)
        marks = [mark.format(next(number)) if p is None else p for p in parts(prompt)]
        text = with_begun(processor.tokenizer, "\n".join(marks), begun, tokenize=False)
        found = processor(text=text, images=opened or None)
    else:
        content = message(prompt, *opened)
        found = with_begun(processor, content, begun, tokenize=True, return_dict=True)
    return [int(i) for i in torch.as_tensor(found["input_ids"]).reshape(-1)]


def mistral_ids(folder: Path, prompt: str, *pictures: bytes, begun: str) -> list[int]:
    """The ids that mistral-common makes of a conversation whose last message is a prefix."""
    from mistral_common.protocol.instruct.chunk import ImageURLChunk, TextChunk
    from mistral_common.protocol.instruct.messages import AssistantMessage, UserMessage
    from mistral_common.protocol.instruct.request import ChatCompletionRequest
    from mistral_common.tokens.tokenizers.mistral import MistralTokenizer

    opened = iter(pictures)
    content = [
        ImageURLChunk(image_url=data_url(next(opened))) if part is None else TextChunk(text=part)
        for part in parts(prompt)
    ]
    turns: list[Any] = [UserMessage(content=content)]
    turns += [AssistantMessage(content=begun, prefix=True)] if begun else []
    tokenizer = MistralTokenizer.from_file(str(folder / "tekken.json"))
    return tokenizer.encode_chat_completion(ChatCompletionRequest(messages=turns)).tokens


def message(prompt: str, *pictures: Any) -> list[dict[str, Any]]:
    left = iter(pictures)
    return [
        {"type": "image", "image": next(left)} if part is None else {"type": "text", "text": part}
        for part in parts(prompt)
    ]


def with_begun(template: Any, content: Any, begun: str, **how: Any) -> Any:
    """A chat with `begun` behind what opens the assistant's turn."""
    return template.apply_chat_template(
        [{"role": "user", "content": content}],
        add_generation_prompt=True,
        chat_template=template.chat_template + begun,
        **how,
    )


def test_the_table_in_the_docs_is_that_of_the_bed() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page == with_table(page), "run python tests/families/bed.py"


@pytest.mark.families
@pytest.mark.parametrize("name", FAMILIES)
def test_prompts_are_the_family_s_own(name: str, folders: Path) -> None:
    family = FAMILIES[name]
    config = ask(name, folders / name)
    with prompts_of(config) as prompts:
        assert prompts._architectures == [family.model]
        tokenizer = prompts._renderer.get_tokenizer()
        token = tokenizer.convert_tokens_to_ids(family.image)
        assert isinstance(token, int)
        for prompt, count in PARTS.values():
            pictures = [picture(300, 200), picture(200, 300)][:count]
            ids = rendered(prompts, prompt, *pictures)
            if family.own and (count < 2 or family.several):
                assert ids == own_ids(name, folders / name, prompt, *pictures)
            # A picture is a run, or several runs, of its token: none without one.
            assert (token in ids) == bool(count)
            if count == 2 and "puts pictures first" not in family.notes.replace("them", "pictures"):
                text = tokenizer.decode([i for i in ids if i != token])
                before, between, behind = (text.find(t) for t in ("In ", " and in ", " is red"))
                assert -1 < before < between < behind
                first, last = ids.index(token), len(ids) - ids[::-1].index(token)
                assert "In" in tokenizer.decode(ids[:first])
                assert " is red" in tokenizer.decode(ids[last:])
                runs = [i for i, j in itertools.pairwise(ids) if i == token != j]
                assert len(runs) >= 2
        with pytest.raises(RowError, match="image_count"):
            rendered(prompts, "Two <image><image>", picture())


@pytest.mark.families
@pytest.mark.parametrize("name", FAMILIES)
def test_the_blind_prompt_is_that_of_the_text_alone(name: str, folders: Path) -> None:
    config = ask(name, folders / name)
    with prompts_of(config) as prompts:
        request = Request(id="a", prompt="<image>\nHow many red shapes?", images=(picture(),))
        bare = asyncio.run(prompts.bare(request))
        assert "mm_kwargs" not in bare
        assert bare["prompt_token_ids"] == rendered(prompts, "How many red shapes?")
        inline = Request(id="b", prompt="How many <image> red shapes?", images=(picture(),))
        assert asyncio.run(prompts.bare(inline))["prompt_token_ids"] == bare["prompt_token_ids"]


RESPONSE = "Row 1: red circle, blue square. Row 2: no green circle. Final answer: 3"


@pytest.mark.families
@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("image", [False, True])
def test_a_continuation_leaves_the_family_s_own_turn_open(
    name: str, image: bool, folders: Path
) -> None:
    family, folder = FAMILIES[name], folders / name
    prompt, large = "<image>\nHow many red shapes?", picture()
    request = Request(id="a", prompt=prompt, images=(large,))
    shown = (prompt, large) if image else ("How many red shapes?",)
    with prompts_of(ask(name, folder)) as prompts:
        tokenizer = prompts._renderer.get_tokenizer()
        sampled = tokenizer.encode(RESPONSE, add_special_tokens=False)
        cut = cut_tokens(sampled, RESPONSE, 0.5, tokenizer.decode)
        assert cut is not None
        assert RESPONSE.startswith(cut.text)
        made = asyncio.run(prompts.continued(request, cut.ids, image=image))
        ids = made["prompt_token_ids"]
        assert ("mm_kwargs" in made) == image
        if family.own:
            assert ids == own_ids(name, folder, *shown, begun=cut.text)
        else:
            # Without a processor to compare with: what its own chat template writes, and in the
            # place of what it writes for a picture only marks, and the number that MiniCPM-V gives.
            text = with_begun(tokenizer, message(*shown), cut.text, tokenize=False)
            pieces = text.split(family.picture) if image else [text, ""]
            begin, end = (tokenizer.encode(t, add_special_tokens=False) for t in pieces)
            assert ids[: len(begin)] == begin
            assert ids[len(ids) - len(end) :] == end
            between = tokenizer.decode(ids[len(begin) : len(ids) - len(end)])
            assert bool(between) == image
            assert re.sub("<[^<>]+>", "", between) in ("", "0")


@pytest.mark.families
@pytest.mark.parametrize("name", WITH_BUDGETS)
def test_budgets_change_the_number_of_image_tokens(name: str, folders: Path) -> None:
    family = FAMILIES[name]
    config = ask(name, folders / name, "images.tiles=12")
    large = picture(SIDE, SIDE)
    with prompts_of(config) as prompts:
        token = prompts._renderer.get_tokenizer().convert_tokens_to_ids(family.image)
        found = [
            rendered(prompts, "<image>\nWhat?", large, tiles=tiles).count(token)
            for tiles in (1, 6, 12)
        ]
    assert found == list(family.tokens or ())
    found_out = trial(config)
    assert found_out.keeps_budgets
    assert not any("dropped" in note for note in found_out.notes)


@pytest.mark.families
@pytest.mark.parametrize("name", WITHOUT)
def test_a_budget_that_vllm_does_not_take_is_refused_or_noted(name: str, folders: Path) -> None:
    notes = FAMILIES[name].notes
    config = ask(name, folders / name, "images.tiles=6")
    if "one size" in notes:
        found = trial(config)
        assert not found.keeps_budgets
        assert "tiles = 6 does nothing" in found.notes[0]
    else:
        with pytest.raises(ConfigError, match=r"tiles = 6 does nothing.*set images\.family"):
            trial(config)


@pytest.mark.families
@pytest.mark.parametrize("name", ONE_FOR_ALL)
def test_one_budget_for_all_sources_is_what_some_take(name: str, folders: Path) -> None:
    large = picture(SIDE, SIDE)
    found = []
    for tiles in (1, 6, 12):
        config = ask(name, folders / name, f"images.tiles={tiles}")
        with prompts_of(config) as prompts:
            found.append(len(rendered(prompts, "<image>\nWhat?", large, tiles=tiles)))
    assert found[0] < found[1] < found[2]


@pytest.mark.families
def test_only_a_shipped_recipe_s_budget_that_does_nothing_is_a_note(folders: Path) -> None:
    config = ask("llava_next", folders / "llava_next", "images.tiles=6")
    images = config.images.model_copy(update={"asked": False})
    found = trial(config.model_copy(update={"images": images}))
    assert not found.keeps_budgets
    assert "tiles = 6 does nothing" in found.notes[0]


@pytest.mark.families
def test_a_picture_that_the_context_cannot_hold_is_found_before_loading(folders: Path) -> None:
    words = ("images.tiles=12", "engine.max_model_len=1024", "sampling.max_tokens=900")
    with pytest.raises(ConfigError, match=r"over 1024 of the 1024.*raise engine\.max_model_len"):
        trial(ask("qwen2_5_vl", folders / "qwen2_5_vl", *words))
    words = ("images.tiles=1", *words[1:])
    (note,) = trial(ask("qwen2_5_vl", folders / "qwen2_5_vl", *words)).notes
    assert "its responses end before sampling.max_tokens = 900" in note
    with pytest.raises(ConfigError, match=r"dropout\.max_tokens = 1,024 leaves no room"):
        trial(ask("qwen2_5_vl", folders / "qwen2_5_vl", *words, "dropout.max_tokens=1024"))


@pytest.mark.families
def test_a_package_that_a_processor_lacks_is_named_with_its_command(tmp_path: Path) -> None:
    config = ask("kimi_vl", tmp_path / "model")
    code = tmp_path / "model" / "processing_kimi_vl.py"
    code.write_text(f"import surely_not_installed\n{code.read_text()}")
    with pytest.raises(ConfigError, match=r"pip install surely_not_installed"):
        trial(config)


@pytest.mark.families
def test_a_model_without_a_chat_template_is_found_before_loading(tmp_path: Path) -> None:
    config = ask("mistral3", tmp_path / "model")
    (tmp_path / "model" / "chat_template.jinja").rename(tmp_path / "mine.jinja")
    with pytest.raises(InputError, match=r"give a Jinja chat template with engine\.chat_template"):
        trial(config)
    words = f"engine.chat_template={tmp_path / 'mine.jinja'}"
    assert trial(ask("mistral3", tmp_path / "model", words)).keeps_budgets
    with pytest.raises(ConfigError, match=r"cannot be shown a picture"):
        trial(ask("mistral3", tmp_path / "model", "engine.chat_template='[INST]{{ messages }}'"))


@pytest.mark.families
def test_a_class_that_vllm_takes_for_a_text_model_is_refused_before_loading(tmp_path: Path) -> None:
    from transformers import Phi4MultimodalConfig

    config = ask("phi4_multimodal", tmp_path / "model")
    theirs = Phi4MultimodalConfig(architectures=["Phi4MultimodalForCausalLM"])
    theirs.save_pretrained(tmp_path / "model")
    # vLLM runs it as a text model.
    with pytest.raises(InputError, match=r"\(Phi4MultimodalForCausalLM\) takes no images"):
        check_images(config)


@pytest.mark.families
def test_what_kept_vllm_from_looking_at_a_class_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    from vllm import ModelRegistry

    class Broken:
        def load_model_cls(self) -> None:
            raise ModuleNotFoundError("No module named 'torchvision'", name="torchvision")

    monkeypatch.setitem(ModelRegistry.models, "SomeVLM", Broken())
    said = ValueError(
        "Model architectures ['SomeVLM'] failed to be inspected. Please check the logs"
    )
    cause = vllm_internals.cause_of(said)
    assert isinstance(cause, ModuleNotFoundError)
    command = r"pip install .*torchvision --index-url https://download.pytorch.org/whl/cpu$"
    assert re.search(command, _how_to_install(cause))
    broken = RuntimeError("operator torchvision::nms does not exist")
    assert re.search(command, _how_to_install(broken))
    assert _how_to_install(ModuleNotFoundError("", name="einops.layers")).endswith("install einops")
    assert _how_to_install(ValueError("no such model")) == ""
    assert vllm_internals.cause_of(other := ValueError("no such model")) is other


@pytest.mark.families
def test_arguments_that_a_processor_ignores_are_told(folders: Path) -> None:
    words = "engine.mm_processor_kwargs={no_such_argument: 3}"
    found = trial(ask("smolvlm2", folders / "smolvlm2", words))
    assert any("no_such_argument" in note for note in found.notes)


@pytest.mark.families
def test_a_plan_tries_the_model_whatever_it_will_be_spread_over(
    folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("RGB", (40, 40)).save(tmp_path / "1.png")
    (tmp_path / "seeds.jsonl").write_text('{"question": "Q", "answer": "1", "image": "1.png"}\n')
    words = [f"seeds={tmp_path / 'seeds.jsonl'}", f"out={tmp_path / 'out'}"]
    words += ["images.tiles=6", "engine.tensor_parallel_size=4"]
    model = folders / "qwen2_5_vl"
    ask("qwen2_5_vl", model)
    (model / "model.safetensors").touch()
    config = load_config(None, [f"model={model}", *words])
    assert plan(config).notes == ()
    wrong = load_config(None, [f"model={model}", *words, 'images.family={no_such: "{tiles}"}'])
    with pytest.raises(ConfigError, match=r"tiles = 6 does nothing"):
        plan(wrong)
    monkeypatch.setenv("RAY_ADDRESS", "elsewhere:6379")
    (note,) = plan(wrong).notes
    assert "tiles = 6 does nothing" in note
    assert "those that sample may differ" in note
