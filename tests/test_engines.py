"""Engines: set-up mistakes are found early, and what the user sets reaches vLLM."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from engine_asks import settings

from mmpr_builder.config import Config, load_config
from mmpr_builder.engines import (
    arguments,
    check_engine,
    check_images,
    model_identity,
    vllm_internals,
)
from mmpr_builder.errors import ConfigError, InputError, SetupError


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder that looks like a model."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "idefics3"}')
    (folder / "model.safetensors").write_bytes(b"0" * 100)
    return folder


def test_checking_a_recipe_loads_no_engine(model: Path) -> None:
    code = (
        "import sys\n"
        "from mmpr_builder.config import load_config\n"
        "from mmpr_builder.engines import check_engine, model_identity\n"
        f"config = load_config(None, ['model={model}', 'engine.max_num_seqs=8'])\n"
        "check_engine(config); model_identity(config)\n"
        "print([m for m in ('vllm', 'torch', 'transformers', 'ray', 'httpx') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_unknown_engine_key_is_answered_with_the_nearest_one(model: Path) -> None:
    with pytest.raises(ConfigError, match=r"engine\.tensor_paralel_size = 2.*'tensor_parallel_siz"):
        check_engine(settings(f"model={model}", tensor_paralel_size=2))


def test_every_engine_argument_of_vllm_is_known() -> None:
    keys = arguments.engine_keys()
    assert {"dtype", "quantization", "max_num_seqs", "enable_log_requests", "hf_overrides"} <= {
        *keys
    }
    assert {"chat_template", "mm_processor_kwargs", "limit_mm_per_prompt"} <= {*keys}
    assert "model" not in keys


@pytest.mark.parametrize("key", ["model", "enable_lora", "seed"])
def test_keys_that_have_a_place_of_their_own_are_refused(model: Path, key: str) -> None:
    with pytest.raises(ConfigError, match=f"engine.{key} .* cannot be set: "):
        check_engine(settings(f"model={model}", **{key: 1}))


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("/nowhere/model", "neither a model folder"),
        ("./model", "neither a model folder"),
        ("not a model", "neither a model folder"),
        ("org/never-downloaded", "not in the local cache"),
    ],
)
def test_a_model_that_is_none_is_refused(name: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        check_engine(settings(f"model={name}"))


def test_a_hub_id_is_allowed_when_the_hub_may_be_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    check_engine(settings("model=org/never-downloaded"))


def test_a_folder_without_a_configuration_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no config\.json"):
        check_engine(settings(f"model={tmp_path}"))


def test_a_lora_adapter_is_looked_for(model: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"lora = .* holds no adapter_config\.json"):
        check_engine(settings(f"model={model}", f"lora={tmp_path}"))


def test_many_greedy_samples_are_refused(model: Path) -> None:
    with pytest.raises(ConfigError, match=r"sampling\.n=1"):
        check_engine(settings(f"model={model}", "sampling.temperature=0"))
    check_engine(settings(f"model={model}", "sampling.temperature=0", "sampling.n=1"))


def test_a_chat_template_that_cannot_be_read_is_refused(model: Path) -> None:
    with pytest.raises(InputError, match=r"engine\.chat_template = 'no\.jinja'"):
        check_engine(settings(f"model={model}", chat_template="no.jinja"))


def test_what_the_user_sets_wins_over_every_default(model: Path) -> None:
    ours = arguments.engine_arguments(settings(f"model={model}"), cpu=True)
    assert (ours["enforce_eager"], ours["enable_chunked_prefill"]) == (True, False)
    assert ours["block_size"] == arguments.CPU_BLOCK
    theirs = arguments.engine_arguments(
        settings(
            f"model={model}",
            enforce_eager=False,
            block_size=128,
            limit_mm_per_prompt={"image": 3},
        ),
        cpu=True,
    )
    assert theirs["enforce_eager"] is False
    assert theirs["block_size"] == 128
    assert theirs["limit_mm_per_prompt"] == {"image": 3}


def test_a_gpu_gets_no_cpu_settings_and_tensor_parallel_stays_in_its_node(model: Path) -> None:
    found = arguments.engine_arguments(
        settings(f"model={model}", tensor_parallel_size=4), cpu=False
    )
    assert "enforce_eager" not in found
    assert found["distributed_executor_backend"] == "mp"


def test_the_adapter_s_rank_is_rounded_up_to_one_that_vllm_has(model: Path, tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text('{"r": 20}')
    found = arguments.engine_arguments(settings(f"model={model}", f"lora={tmp_path}"), cpu=False)
    assert (found["enable_lora"], found["max_lora_rank"]) == (True, 32)


CONTEXTS = [(4_096, 4_096), (32_768, 32_768), (131_072, 32_768)]


@pytest.mark.parametrize(("own", "taken"), CONTEXTS)
def test_the_default_context_is_bounded(own: int, taken: int) -> None:
    assert arguments.default_context(settings(), own, cpu=False) == taken


def test_the_default_context_holds_the_longest_response() -> None:
    config = settings("sampling.max_tokens=40000")
    assert arguments.default_context(config, 131_072, cpu=False) == 44_096


def test_identity_changes_with_the_model_and_not_with_its_place(model: Path) -> None:
    first = model_identity(settings(f"model={model}"))
    moved = model.rename(model.with_name("moved"))
    second = model_identity(settings(f"model={moved}"))
    assert {k: v for k, v in first.items() if k != "model"} == {
        k: v for k, v in second.items() if k != "model"
    }
    (moved / "model.safetensors").write_bytes(b"0" * 101)
    third = model_identity(settings(f"model={moved}"))
    assert third["model.weights"] != second["model.weights"]
    assert third["model.config"] == second["model.config"]
    (moved / "model.safetensors").write_bytes(b"1" * 101)
    trained = model_identity(settings(f"model={moved}"))
    assert trained["model.weights"] == third["model.weights"]
    assert trained["model.content"] != third["model.content"]


def with_class(model: Path, name: str, *overrides: str) -> Config:
    (model / "config.json").write_text(json.dumps({"architectures": [name]}))
    return load_config(None, [f"model={model}", *overrides])


def test_a_model_that_takes_no_images_is_refused_for_seeds_that_have_some(model: Path) -> None:
    with pytest.raises(InputError, match=r"Qwen2ForCausalLM\) takes no images, and the seeds have"):
        check_images(with_class(model, "Qwen2ForCausalLM"))
    check_images(with_class(model, "Qwen2_5_VLForConditionalGeneration"))
    with pytest.raises(ConfigError, match="vLLM cannot load model"):  # Which it is asked of others.
        check_images(with_class(model, "SomethingNewForCausalLM"))
    with pytest.raises(ConfigError, match=r"allows no image.*raise its `image`"):
        check_images(
            with_class(
                model,
                "Qwen2_5_VLForConditionalGeneration",
                "engine.limit_mm_per_prompt={image: 0}",
            )
        )


def test_vllm_s_list_of_models_is_read_as_vllm_has_it() -> None:
    from vllm.model_executor.models import registry

    found = vllm_internals.models_by_kind()
    assert found["_MULTIMODAL_MODELS"] == set(registry._MULTIMODAL_MODELS)
    assert found["_TEXT_GENERATION_MODELS"] == set(registry._TEXT_GENERATION_MODELS)


def images_are_kept() -> bool:
    return vllm_internals.image_data_is_kept(SimpleNamespace(mm_processor_cache=object()))


def test_the_fork_server_is_begun_before_vllm_is_imported() -> None:
    told = subprocess.run(
        [
            *(sys.executable, "-c"),
            "import sys\n"
            "from multiprocessing import forkserver\n"
            "from mmpr_builder.engines import vllm_internals\n"
            "forkserver.ensure_running = lambda: print('vllm' in sys.modules)\n"
            "vllm_internals.prepare_forks()",
        ],
        capture_output=True,
        text=True,
        check=True,
        env={key: value for key, value in os.environ.items() if key != "LD_PRELOAD"},
    ).stdout.split()
    assert told == (["False"] if vllm_internals.runs_on_cpu() else [])


def forks_cores() -> bool:
    with vllm_internals.forked(prepared=True):
        utils = sys.modules.get("vllm.v1.engine.utils")
        return getattr(utils, "get_mp_context", None) is vllm_internals._Forking


@pytest.mark.slow
@pytest.mark.parametrize(
    ("missing", "left"),
    [
        ("v1.metrics.loggers", lambda: not vllm_internals.recorder(Counter())),
        ("usage.usage_lib", lambda: not vllm_internals.usage_context()),
        ("platforms", lambda: not vllm_internals.runs_on_cpu()),
        ("platforms", lambda: not forks_cores()),
        ("v1.engine.utils", lambda: not forks_cores()),
        ("exceptions", lambda: not vllm_internals.errors("exceptions", "VLLMClientError")),
        (
            "v1.engine.exceptions",
            lambda: not vllm_internals.errors("v1.engine.exceptions", "EngineDeadError"),
        ),
        ("multimodal.cache.lru", lambda: not images_are_kept()),
    ],
)
def test_a_vllm_that_lacks_one_of_its_insides_still_works(
    missing: str, left: Callable[[], bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    import vllm  # noqa: F401 - as it is where an engine starts
    from vllm import SamplingParams  # noqa: F401 - loaded by now, whatever is missing next

    monkeypatch.setitem(sys.modules, f"vllm.{missing}", None)
    assert left()


def test_a_vllm_that_renders_in_another_way_is_refused_with_the_versions_that_are_known() -> None:
    engine = SimpleNamespace(renderer=None)
    with pytest.raises(SetupError, match=vllm_internals.VERSIONS):
        vllm_internals.chat_parameters(engine, None, {})


@pytest.mark.parametrize("mode", [0o1777, 0o700])
def test_sockets_of_an_engine_lie_in_a_folder_that_only_its_user_enters(
    mode: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tmp_path.chmod(mode)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.delenv("VLLM_RPC_BASE_PATH", raising=False)
    with vllm_internals.private_sockets() as told:
        places = [Path(place) for place in told.values()] or [tmp_path]
        assert [place.stat().st_mode & 0o777 for place in places] == [0o700]
    assert not list(tmp_path.iterdir())
    monkeypatch.setenv("VLLM_RPC_BASE_PATH", "/theirs")
    with vllm_internals.private_sockets() as told:
        assert not told
