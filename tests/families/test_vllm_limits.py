"""What vLLM itself cannot do with a family: plain vLLM, without this package's engine.

LLaVA-NeXT, LLaVA-OneVision and Pixtral have no budget for each source. vLLM counts the tokens of
their pictures by the model's files. The arguments of a request change the pixels at most: the two
then differ, and the model cannot put one in the place of the other.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import tiny_models
from bed import BY_HAND, SIDE, data_url, edit, picture

from mmpr_builder.engines.arguments import quiet_environment


@contextmanager
def renderer_of(folder: Path, **more: Any) -> Iterator[Any]:
    quiet_environment()
    from vllm import AsyncEngineArgs
    from vllm.model_executor.models import registry
    from vllm.renderers import renderer_from_config

    registry._run_in_subprocess = lambda look: look()  # A process for each class takes long.
    given = {"model": str(folder), "limit_mm_per_prompt": {"video": 0}, "max_model_len": 16_384}
    renderer = renderer_from_config(AsyncEngineArgs(**given, **more).create_engine_config())
    try:
        yield renderer
    finally:
        renderer.shutdown()


def shown(renderer: Any, **extras: Any) -> tuple[int, int]:
    """Tokens of a prompt with a large picture, and the numbers that its pixels are."""
    from vllm.renderers import ChatParams
    from vllm.utils.mistral import is_mistral_tokenizer

    url = {"url": data_url(picture(SIDE, SIDE))}
    content = [{"type": "image_url", "image_url": url}, {"type": "text", "text": "What?"}]
    how = {"add_generation_prompt": True, "continue_final_message": False}
    how["tokenize"] = is_mistral_tokenizer(renderer.tokenizer)
    chat, tokens = ChatParams(chat_template_kwargs=how), renderer.default_chat_tok_params
    asked = [[{"role": "user", "content": content}]], chat, tokens
    _, (prompt,) = renderer.render_chat(*asked, **extras)
    (item,) = prompt["mm_kwargs"]["image"]
    pixels = next(item[name] for name in ("pixel_values", "images") if name in item)
    return len(prompt["prompt_token_ids"]), sum(t.numel() for t in pixels.data)


@pytest.mark.families
@pytest.mark.parametrize("name", ["pixtral_hf", "pixtral"])
def test_the_arguments_of_a_request_change_no_number_of_tokens(name: str, tmp_path: Path) -> None:
    arguments, _ = BY_HAND[name]
    with renderer_of(getattr(tiny_models, name)(tmp_path / "model", weights=False)) as renderer:
        tokens, pixels = shown(renderer)
        asked = shown(renderer, prompt_extras={"mm_processor_kwargs": arguments})
        assert asked[0] == tokens
        assert asked[1] < pixels / 2 or name == "pixtral"  # Which does not even look at them.


@pytest.mark.families
@pytest.mark.parametrize("name", ["llava_next", "llava_onevision"])
def test_a_list_of_sizes_is_no_argument_for_vllm_and_no_other_for_transformers(
    name: str, tmp_path: Path
) -> None:
    ((key, sizes),) = BY_HAND[name][0].items()
    tuples = tuple(map(tuple, sizes))
    with renderer_of(getattr(tiny_models, name)(tmp_path / "model", weights=False)) as renderer:
        for given, why in (
            (sizes, "unhashable type: 'list'"),
            (tuples, "expected list, got tuple"),
        ):
            with pytest.raises(Exception, match=why):
                shown(renderer, prompt_extras={"mm_processor_kwargs": {key: given}})


@pytest.mark.families
@pytest.mark.parametrize("name", BY_HAND)
def test_files_that_say_the_same_make_all_pictures_smaller(name: str, tmp_path: Path) -> None:
    make = getattr(tiny_models, name)
    found = []
    for files in ({}, BY_HAND[name][1]):
        folder = make(tmp_path / f"with-{len(files)}", weights=False)
        with renderer_of(edit(folder, files)) as renderer:
            found.append(shown(renderer))
    assert found[1][0] < found[0][0] / 2
    assert found[1][1] < found[0][1] / 2
