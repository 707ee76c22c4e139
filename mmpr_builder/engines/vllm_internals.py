"""Every use of vLLM beyond its public names, and what happens where one is missing.

Run in vLLM 0.31 and 0.32 (the engine of 0.30 dies at the demo model's first picture):

    function                  reaches for                               without it
    recorder                  v1.metrics.loggers.StatLoggerBase         no figures of its caches
    only_ours                 its Prometheus logger, output_handler     slower
    usage_context             usage.usage_lib.UsageContext              its settings for latency
    private_sockets           envs.VLLM_RPC_BASE_PATH               sockets that all users see
    prepare_forks, forked     v1.engine.utils.get_mp_context            each process imports vLLM
    chat_parameters           renderers.ChatParams, utils.mistral       an error with the versions
    errors                    exceptions, v1.engine.exceptions          any failure ends the engine
    renderer_of               renderers.renderer_from_config            an error with the versions
    cause_of                  ModelRegistry.models                      vLLM's own words
    keep_budgets_from_videos  ctx_video_token of InternVL's processor   nothing to keep
    image_data_is_kept        multimodal.cache.lru                      tensors with every response
    send_pictures_once        AsyncMPClient.add_request_async           the same
    argument_names            the source of engine/arg_utils.py         no check before loading
    models_by_kind            the source of models/registry.py          the same

No other file imports a module below `vllm`.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import importlib
import importlib.util
import logging
import logging.handlers
import multiprocessing
import os
import re
import tempfile
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

from mmpr_builder.errors import MissingExtraError, SetupError

CPU_INDEX = "https://download.pytorch.org/whl/cpu"
VERSIONS = "0.31 and 0.32"
"""The versions of vLLM that this file was checked against."""


_IGNORED = re.compile(r"not valid for|ignored|unused|unrecogni[sz]ed|will be dropped")


def _found(module: str, name: str) -> Any:
    """`vllm.<module>.<name>`; None where this version of vLLM does not have it."""
    try:
        return getattr(importlib.import_module(f"vllm.{module}".rstrip(".")), name, None)
    except ImportError:
        return None


# --- what the caches save -------------------------------------------------------------------


def recorder(hits: Counter[str]) -> list[Any]:
    """vLLM's `stat_loggers` argument: a class whose instances add to `hits` (`HasCaches`).

    A seed's later rounds show as prefix hits only: their prompt is kept rendered, and the cached
    prefix covers the image tokens.
    """
    base = _found("v1.metrics.loggers", "StatLoggerBase")
    if base is None:
        return []

    class Recorder(base):  # type: ignore[misc, valid-type]
        def __init__(self, vllm_config: Any, engine_index: int = 0) -> None:
            pass

        def record(
            self,
            scheduler_stats: Any,
            iteration_stats: Any,
            mm_cache_stats: Any = None,
            engine_idx: int = 0,
        ) -> None:
            prefix = None if scheduler_stats is None else scheduler_stats.prefix_cache_stats
            for cache, found in (("prefix", prefix), ("image", mm_cache_stats)):
                if found is not None:
                    hits[f"{cache}_queries"] += found.queries
                    hits[f"{cache}_hits"] += found.hits

        def log_engine_initialized(self) -> None:
            pass

    return [Recorder]


def only_ours(engine: Any) -> None:
    """Remove vLLM's Prometheus exporter, which comes with every recorder, costs time at every token
    and is read by nothing, and the times it shows."""
    prometheus = _found("v1.metrics.loggers", "PrometheusStatLogger")
    manager = getattr(engine, "logger_manager", None)
    if prometheus is None or manager is None or not hasattr(engine, "output_handler"):
        return
    manager.stat_loggers = [one for one in manager.stat_loggers if not isinstance(one, prometheus)]
    # Timing every token of every request is a third of the front end's work; the engine's own
    # process counts without it. A running handler has read the old setting already; the first
    # request starts another.
    engine.log_stats = engine.output_processor.log_stats = False
    if engine.output_handler is not None:
        engine.output_handler.cancel()
        engine.output_handler = None


# --- setting up -----------------------------------------------------------------------------


def usage_context() -> dict[str, Any]:
    """The argument of `create_engine_config` and `from_vllm_config` for vLLM's throughput defaults
    (on an H100 1,024 sequences in batches of 16,384 tokens instead of 128 and 2,048)."""
    found = _found("usage.usage_lib", "UsageContext")
    return {"usage_context": found.LLM_CLASS} if hasattr(found, "LLM_CLASS") else {}


def runs_on_cpu() -> bool:
    """Whether this vLLM is built for CPUs."""
    platform = _found("platforms", "current_platform")
    return platform is not None and bool(platform.is_cpu())


# What the engine's two processes, its core and its worker, import before they do anything.
_PRELOADED = [
    "ray",
    "vllm.v1.engine.core",
    "vllm.v1.executor.multiproc_executor",
    "vllm.v1.worker.cpu_worker",
]


def prepare_forks() -> bool:
    """Have the modules of the engine's processes imported once for all of them, meanwhile.

    Whether that was begun: only vLLM for CPUs, with the OpenMP that it would choose itself.

    vLLM for CPUs spawns its processes, one from the other, and each imports vLLM anew.
    This process cannot fork them: Ray's and Arrow's threads run in it. Python's fork
    server is a process of its own that has no thread, so what is forked from it is sound.
    It imports while this process does, so it is begun before vLLM is imported here.
    """
    ahead = _ahead()
    # vLLM itself sets the variable where it makes a configuration.
    preloaded = {Path(path).name for path in os.environ.get("LD_PRELOAD", "").split(":") if path}
    if (
        not _is_cpu_build()
        or preloaded.difference(Path(path).name for path in ahead)
        or os.environ.get("VLLM_CPU_OMP_THREADS_BIND", "auto") == "nobind"
    ):
        return False
    multiprocessing.set_forkserver_preload(_PRELOADED)
    # Libraries are loaded ahead of others, and OpenMP reads its settings, when a process begins.
    # With one thread OpenMP starts none: what is forked could not use it any more.
    with environment(LD_PRELOAD=":".join(ahead), OMP_NUM_THREADS="1"):
        forkserver.ensure_running()
    return True


def _is_cpu_build() -> bool:
    """Whether the installed vLLM is one for CPUs, by its package: to ask vLLM is to import it."""
    for package in ("vllm-cpu", "vllm"):
        with contextlib.suppress(PackageNotFoundError):
            return "cpu" in f"{package} {version(package)}"
    return False


def _ahead() -> list[str]:
    """The libraries that vLLM for CPUs has its processes load first: its allocator, and torch's
    OpenMP (`platforms.cpu.CpuPlatform.check_and_update_config`)."""
    found = []
    for package, folder, pattern in (
        ("vllm", "libs", "libtcmalloc*.so*"),
        ("torch", "lib", "libgomp*.so*"),
        ("torch", "../torch.libs", "libgomp*.so*"),
    ):
        spec = importlib.util.find_spec(package)
        if spec is not None and spec.origin is not None:
            found += sorted(Path(spec.origin).parent.joinpath(folder).glob(pattern))[:1]
    return [str(path) for path in found]


@contextlib.contextmanager
def environment(**variables: str) -> Iterator[None]:
    """Set variables of the environment within the block."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextlib.contextmanager
def forked(*, prepared: bool) -> Iterator[None]:
    """While this lasts, engines take their processes from the fork server, if it is `prepared`.

    If the server does not work they are spawned, as ever.
    """
    known = prepared and runs_on_cpu() and _found("v1.engine.utils", "get_mp_context") is not None
    if not known or not _forks():
        yield
        return
    utils: Any = importlib.import_module("vllm.v1.engine.utils")
    original = utils.get_mp_context
    utils.get_mp_context = _Forking
    try:
        yield
    finally:
        utils.get_mp_context = original


def _forks() -> bool:
    """Whether the fork server has everything imported, and forks; waits for it."""
    trial = multiprocessing.get_context("forkserver").Process(target=int)
    try:
        trial.start()
    except (OSError, EOFError):
        return False
    trial.join()
    return trial.exitcode == 0


class _Forking(ForkServerContext):
    """What `multiprocessing` offers, by way of the fork server; engine cores fork workers."""

    def Process(self, target: Callable[..., None], **given: Any) -> Any:  # type: ignore[override]
        environment = os.environ | {"VLLM_WORKER_MULTIPROC_METHOD": "fork"}
        target = functools.partial(_run_core, environment, target)
        return super().Process(target=target, **given)


def _run_core(environment: dict[str, str], target: Callable[..., None], **given: Any) -> None:
    """Run an engine's core in a process whose environment is that of the fork server."""
    with contextlib.suppress(ImportError):
        # vLLM's titles of processes: where they go is found by the environment, which now moves.
        importlib.import_module("setproctitle").getproctitle()
    os.environ.clear()
    os.environ.update(environment)
    os.register_at_fork(after_in_child=_bind_worker)
    target(**given)


def _bind_worker() -> None:
    """Heed the cores that vLLM lays down for a worker: OpenMP has read its environment before."""
    cores = {int(core) for core in re.findall(r"\d+", os.environ.get("GOMP_CPU_AFFINITY", ""))}
    if cores:
        os.sched_setaffinity(0, cores)
        importlib.import_module("torch").set_num_threads(len(cores))


_SOCKETS = "VLLM_RPC_BASE_PATH"


@contextlib.contextmanager
def private_sockets() -> Iterator[dict[str, str]]:
    """What an engine's environment needs for its sockets to lie in a folder that only this user
    enters; they, which vLLM leaves, go with it. Nothing where temporary files lie in such a one."""
    is_private = not os.stat(tempfile.gettempdir()).st_mode & 0o077
    if is_private or _SOCKETS in os.environ:
        yield {}
        return
    # A short name: the path of a socket has 107 bytes at most.
    with tempfile.TemporaryDirectory(prefix="mmpr-", ignore_cleanup_errors=True) as folder:
        yield {_SOCKETS: folder}


def has_device() -> bool:
    """Whether vLLM finds what it is built for: a GPU, or for its CPU build any machine."""
    platform = _found("platforms", "current_platform")
    return bool(getattr(platform, "device_type", ""))


def chat_parameters(engine: Any, template: str | None, given: dict[str, Any]) -> tuple[Any, Any]:
    """How messages become text and text becomes tokens: as in vLLM's own server, which adds no
    special tokens to what a chat template wrote.

    Raises `SetupError` for a vLLM without such a renderer.
    """
    parameters = _found("renderers", "ChatParams")
    renderer = getattr(engine, "renderer", None)
    if parameters is None or renderer is None:
        raise _other_renderer()
    chat = parameters(
        chat_template=template,
        chat_template_content_format=given.get("chat_template_content_format", "auto"),
        chat_template_kwargs={
            **given.get("chat_template_kwargs", {}),
            "add_generation_prompt": True,
            "continue_final_message": False,
            "tokenize": wants_urls(renderer),
        },
    )
    return chat, replace(renderer.default_chat_tok_params, add_special_tokens=False)


@contextlib.contextmanager
def renderer_of(vllm_config: Any) -> Iterator[Any]:
    """What renders prompts, as the engine of a `VllmConfig` has it, without an engine."""
    make = _found("renderers", "renderer_from_config")
    if make is None:
        raise _other_renderer()
    renderer = make(vllm_config)
    try:
        yield renderer
    finally:
        renderer.shutdown()


@contextlib.contextmanager
def complaints() -> Iterator[list[str]]:
    """What transformers and vLLM log of arguments that they ignore, within the block."""
    found: list[str] = []
    listener = logging.handlers.BufferingHandler(1_000)
    loggers = [logging.getLogger(name) for name in ("transformers", "vllm")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.addHandler(listener)
        logger.setLevel(logging.WARNING)
    try:
        yield found
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.removeHandler(listener)
            logger.setLevel(level)
        said = dict.fromkeys(" ".join(one.getMessage().split()) for one in listener.buffer)
        found += [text for text in said if _IGNORED.search(text)]


def cause_of(error: BaseException) -> BaseException:
    """The reason for vLLM's "failed to be inspected", which it logs and does not say."""
    registry = _found("", "ModelRegistry")
    if "inspected" in str(error) and registry is not None:
        for name in re.findall(r"'(\w+)'", str(error)):
            try:
                registry.models[name].load_model_cls()
            except (ImportError, RuntimeError) as cause:
                return cause
            except KeyError:
                continue
    return error


def wants_urls(renderer: Any) -> bool:
    """Whether the model has Mistral's own tokenizer, which opens pictures by itself."""
    is_mistral = _found("utils.mistral", "is_mistral_tokenizer")
    return is_mistral is not None and bool(is_mistral(renderer.tokenizer))


def _other_renderer() -> SetupError:
    version = getattr(importlib.import_module("vllm"), "__version__", "unknown")
    return SetupError(
        f"this vLLM ({version}) renders chats in another way than the versions that are"
        f" known ({VERSIONS}): install one of them"
    )


def keep_budgets_from_videos(renderer: Any) -> None:
    """Have InternVL's processor build no video processor, which refuses a picture's budget.

    vLLM builds both with the arguments of a request. No request here has a video.
    """
    info: Any = getattr(getattr(renderer, "mm_processor", None), "info", None)
    if hasattr(info, "ctx_video_token"):
        info.ctx_video_token = None


def image_limit(model_config: Any) -> int:
    """Images that one prompt may hold; 0 for a model that takes none."""
    found = model_config.multimodal_config
    return 0 if found is None else int(found.get_limit_per_prompt("image"))


# --- asking ---------------------------------------------------------------------------------

# Tokens between two outputs of a stream: it sends the first token and the end, nothing between.
_SILENT = 2**30


def sampling_parameters(*, streamed: bool, **given: Any) -> Any:
    """vLLM's `SamplingParams`; `streamed` hands each of the n responses over as it finishes."""
    from vllm.sampling_params import RequestOutputKind, SamplingParams

    return SamplingParams(
        **given,
        output_kind=RequestOutputKind.CUMULATIVE if streamed else RequestOutputKind.FINAL_ONLY,
        stream_interval=_SILENT if streamed else None,
    )


def lora_request(folder: str) -> Any:
    """What names a LoRA adapter in each request."""
    from vllm.lora.request import LoRARequest

    return LoRARequest("adapter", 1, folder)


def errors(module: str, name: str) -> tuple[type[Exception], ...]:
    """A kind of errors as `except` takes it; empty where the installed vLLM does not have it."""
    found = _found(module, name)
    return () if found is None else (found,)


def first_lines(error: BaseException) -> str:
    """An error's text on one line, at most 500 characters of it."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 500 else text[:500] + " …"


# --- sending --------------------------------------------------------------------------------


def image_data_is_kept(renderer: Any) -> bool:
    """Whether the engine's process keeps the processed pictures that it was sent, by their hash.

    Then further requests may leave them out; they fail in the rare case that the pictures were
    displaced meanwhile.
    """
    kind = _found("multimodal.cache.lru", "LruKeyReplicatedSenderCache")
    return kind is not None and isinstance(getattr(renderer, "mm_processor_cache", None), kind)


WHOLE = "whole-"
"""Requests whose name begins so are sent as vLLM does it, each response with its pictures."""

_KNOWN = 1024  # Requests to remember; their responses leave in one go, so few would do.


def send_pictures_once(engine: Any) -> None:
    """Change how `engine` (an `AsyncLLM` whose process keeps pictures) sends its requests.

        n = 32:   [tensors] [-] [-] [-] … [-]      instead of      [tensors] [tensors] … [tensors]

    vLLM makes a request for each response and sends the processed pictures, megabytes of them, with
    each, although the engine's process keeps them. Here only the first has them.
    """
    send = getattr(engine.engine_core, "add_request_async", None)
    # Between several cores siblings go apart.
    if send is None or engine.vllm_config.parallel_config.data_parallel_size > 1:
        return
    light: OrderedDict[str, list[Any]] = OrderedDict()

    async def send_once(request: Any) -> None:
        name = request.external_req_id
        if request.mm_features and name is not None and not name.startswith(WHOLE):
            if name in light:
                request.mm_features = light[name]
            else:
                light[name] = [replace(f, data=None) for f in request.mm_features]
                if len(light) > _KNOWN:
                    light.popitem(last=False)
        await send(request)

    engine.engine_core.add_request_async = send_once


# --- reading its source ---------------------------------------------------------------------
# Importing vLLM takes eight seconds and loads torch: checking a recipe needs neither.


def argument_names() -> set[str]:
    """The names of the engine's arguments; empty where this vLLM keeps them elsewhere."""
    return {
        statement.target.id
        for node in _source("engine", "arg_utils.py").body
        if isinstance(node, ast.ClassDef) and node.name in ("EngineArgs", "AsyncEngineArgs")
        for statement in node.body
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name)
    }


def models_by_kind() -> dict[str, set[str]]:
    """The model classes in two tables of vLLM's own list; empty where it has no such table."""
    found: dict[str, set[str]] = {"_MULTIMODAL_MODELS": set(), "_TEXT_GENERATION_MODELS": set()}
    for node in _source("model_executor", "models", "registry.py").body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict):
            keys = {str(k.value) for k in node.value.keys if isinstance(k, ast.Constant)}
            for target in node.targets:
                if isinstance(target, ast.Name) and target.id in found:
                    found[target.id] = keys
    return found


def _source(*names: str) -> ast.Module:
    """A file of the installed vLLM; an empty one where it has no such file."""
    spec = importlib.util.find_spec("vllm")
    if spec is None or spec.origin is None:
        raise MissingExtraError(
            "sampling.engine = 'vllm', but vllm is not installed: run"
            " pip install 'mmpr-builder[cuda]' (NVIDIA), or"
            f" pip install 'mmpr-builder[cpu]' --extra-index-url {CPU_INDEX},"
            " or set sampling.engine=endpoint"
        )
    source = Path(spec.origin).parent.joinpath(*names)
    return ast.parse(source.read_text(encoding="utf-8") if source.is_file() else "")
