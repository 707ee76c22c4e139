"""A real vLLM server in front of a tiny model that thinks, with settings of the model's own."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
import tiny_models
from engine_asks import drawn, picture, settings, using

from mmpr_builder.config import Config
from mmpr_builder.engines import check_engine, make_sampler
from mmpr_builder.errors import ConfigError
from mmpr_builder.sampling import Continue, Request


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    pytest.importorskip("vllm")
    model = tiny_models.qwen3_vl_thinking(tmp_path_factory.mktemp("model"))
    # Where everybody asks for greedy answers, unless told otherwise.
    (model / "generation_config.json").write_text(json.dumps({"top_k": 1}))
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    words = [
        *(sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(model)),
        *("--served-model-name", "tiny", "--host", "127.0.0.1", "--port", str(port)),
        *("--enforce-eager", "--no-enable-chunked-prefill", "--max-model-len", "4096"),
        *("--limit-mm-per-prompt", '{"image": 1, "video": 0}'),
    ]
    log = tmp_path_factory.mktemp("log") / "server.log"
    with log.open("w") as out:
        environment = {**os.environ, "VLLM_CPU_KVCACHE_SPACE": "1"}
        server = subprocess.Popen(words, stdout=out, stderr=out, env=environment)
        try:
            while not _is_up(f"http://127.0.0.1:{port}/health"):
                assert server.poll() is None, log.read_text()[-3000:]
                time.sleep(1)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            server.terminate()
            server.wait()


def _is_up(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as reply:
            return bool(reply.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def served(url: str, *words: str) -> Config:
    return settings(
        *("sampling.engine=endpoint", "model=tiny", f"sampling.endpoint.url={url}"),
        *("sampling.n=4", "sampling.max_tokens=24", *words),
    )


@pytest.mark.families
def test_a_served_model_that_thinks_goes_on_from_its_own_tokens(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    config = served(url, "dropout.apply=all")
    check_engine(config)
    assert caplog.text == ""
    sampler: Any = make_sampler(config)
    ask = Request("a", "<image>\nHow many?", (picture(),), n=4, seed=7, max_tokens=24)

    async def work() -> None:
        assert (await sampler.examined()).opened == "<think>\n"
        samples = await drawn(sampler, ask)
        assert len({sample.text for sample in samples}) == 4  # The model's own top_k is 1.
        for sample in samples:
            assert sample.text.startswith("<think>\n")
            made = await sampler.continue_response(ask, sample, Continue(0.5, False, 8, 3))
            assert sample.text.startswith(made.prefix)
            assert 0 < made.tokens <= 8
            assert made.prefix_tokens > 0

    using(sampler, work())


@pytest.mark.families
@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("sampling.endpoint.continuation=continue_final_message",), "assistant's turn open"),
        (("images.family=qwen_vl", "images.tiles=2", "seeds=a.jsonl"), "--trust-request-mm"),
        (("sampling.max_tokens=4096",), "leaves no room"),
    ],
)
def test_what_the_server_cannot_do_is_said_before_any_seed(
    url: str, words: tuple[str, ...], why: str
) -> None:
    with pytest.raises(ConfigError, match=why):
        check_engine(served(url, "dropout.apply=all", *words))
