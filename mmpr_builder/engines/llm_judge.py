"""The LLM judge: a model on an OpenAI-compatible server compares undecided answers with the truth.

    Case("Name the shape.", ("a rhombus",), (), "equilateral quadrilateral") -> "SAME"

Off by default. The answer is data that a model wrote: its length is capped, it stands between marks
that its writer cannot know, and it is filled in in one pass, so that nothing in it is a slot. Only
one of three words counts as a reply; anything else leaves the answer undecided.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import httpx
from PIL import Image

from mmpr_builder.config import JudgeConfig, find_shipped, shipped_names
from mmpr_builder.engines import server
from mmpr_builder.errors import ConfigError, EngineError, InputError
from mmpr_builder.io.tables import storable
from mmpr_builder.prompts import CONTROL, JUDGE_PREFIX, filled
from mmpr_builder.records import content_id

WORDS = ("SAME", "DIFFERENT", "UNSURE")
MALFORMED = "MALFORMED"
"""The opinion where the reply was none of `WORDS`."""

KEYS = "scoring.judge"
_MAX_ANSWER = 2_000
_MAX_QUESTION = 8_000
_MAX_REPLY = 200
_FAILURES = 8  # Failed requests in a row after which a server counts as gone.
_WRONG = frozenset({401, 403, 404})


@dataclass(frozen=True, slots=True)
class Case:
    """One comparison to ask for."""

    question: str
    truths: tuple[str, ...]
    choices: tuple[str, ...]
    answer: str

    @property
    def may_be_asked(self) -> bool:
        """False for what is too long (a cut answer would be another answer), and for words with
        the control tokens of a chat, which servers obey wherever they stand."""
        return (
            len(self.answer) <= _MAX_ANSWER
            and not any(map(CONTROL.search, (self.answer, *self.truths)))
            and sum(map(len, self.truths)) <= _MAX_ANSWER
            and len(self.question) + sum(map(len, self.choices)) <= _MAX_QUESTION
        )


@dataclass(frozen=True, slots=True)
class Opinion:
    """One of `WORDS`, or `MALFORMED`; `reply` is the beginning of the model's text."""

    word: str
    reply: str


@dataclass(frozen=True, slots=True)
class Prompt:
    """The text of the judge's prompt, with its model and the length of its reply."""

    text: str
    model: str
    max_tokens: int

    def key(self, case: Case) -> str:
        """32 hex digits over what decides the opinion: model, length, prompt and case."""
        return content_id(self.model, str(self.max_tokens), self.render(case))

    def render(self, case: Case) -> str:
        """The prompt for one case. Slots inside the values are not filled."""
        options = "\n".join(f"{chr(65 + i)}. {text}" for i, text in enumerate(case.choices))
        values = {
            # An answer cannot hold its own hash, so it cannot forge a mark.
            "fence": content_id(case.question, *case.truths, *case.choices, case.answer)[:12],
            "question": case.question,
            "options": options or "(none)",
            "truth": "\n".join(case.truths),
            "answer": case.answer,
        }
        return storable(filled(self.text, values))


def load_prompt(settings: JudgeConfig) -> Prompt:
    """The configured prompt. Raises `SetupError` when it, or the model, is missing or wrong."""
    if not settings.model:
        raise ConfigError(f"{KEYS}.url is set, and {KEYS}.model is not: name the model to ask")
    path = find_shipped("prompts", settings.prompt, ".txt")
    if path is None:
        known = [n for n in shipped_names("prompts", ".txt") if n.startswith(JUDGE_PREFIX)]
        raise InputError(
            f"{KEYS}.prompt = {settings.prompt!r} is neither a file nor shipped: give the path of"
            f" a text file, or one of {', '.join(known)}"
        )
    try:
        text = path.read_text(encoding="utf-8-sig").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{KEYS}.prompt {path}: cannot be read as UTF-8 text: {error}") from None
    missing = [slot for slot in ("fence", "truth", "answer") if f"{{{slot}}}" not in text]
    missing += [word for word in WORDS if word not in text]
    if missing:
        raise InputError(
            f"{KEYS}.prompt {path} lacks {', '.join(missing)}: it must hold {{truth}} and"
            f" {{answer}} between marks with {{fence}}, and ask for one of {', '.join(WORDS)}"
        )
    return Prompt(text, settings.model, settings.max_tokens)


def check(settings: JudgeConfig) -> None:
    """Raise `SetupError` unless the server is there and serves the model."""
    server.check_server(settings, load_prompt(settings).model, KEYS, f"{KEYS}.model")


def check_sees(settings: JudgeConfig) -> None:
    """`check`, and raise `ConfigError` unless the server takes a picture."""
    check(settings)
    picture = server.shown(Image.new("RGB", (56, 56), "navy"))
    content = [picture, {"type": "text", "text": "Which colour?"}]
    body = {"model": settings.model, "messages": [{"role": "user", "content": content}]}

    async def look() -> Any:
        async with httpx.AsyncClient(**server.client_arguments(settings)) as client:
            return await LLMJudge(settings)._post(client, {**body, "max_tokens": 1})

    if server.run(look()) is None:
        raise ConfigError(
            f"{KEYS}.url = {settings.url!r} takes no picture: name a server of a model that"
            f" does, or set {KEYS}.open=0"
        )


def read_opinion(reply: Any) -> Opinion:
    """The opinion in a chat completion; anything but one of the three words is `MALFORMED`."""
    try:
        text = reply["choices"][0]["message"]["content"]
    except (KeyError, IndexError, TypeError):
        text = None
    if not isinstance(text, str):
        return Opinion(MALFORMED, "")
    word = text.strip()
    return Opinion(word if word in WORDS else MALFORMED, word[:_MAX_REPLY])


class LLMJudge:
    """Asks one server, many cases at a time."""

    def __init__(self, settings: JudgeConfig) -> None:
        self._settings = settings
        self._prompt = load_prompt(settings)
        self._arguments = server.client_arguments(settings)
        self._failed_in_a_row = 0

    def ask(self, cases: Sequence[Case]) -> list[Opinion | None]:
        """An opinion on each case, in order; None where no answer came.

        After some failures in a row the server counts as gone. Raises `InputError` when it refuses
        access or does not know the model.
        """
        return server.run(self._ask_all(cases)) if cases else []

    async def _ask_all(self, cases: Sequence[Case]) -> list[Opinion | None]:
        in_flight = asyncio.Semaphore(self._settings.concurrency)
        async with httpx.AsyncClient(**self._arguments) as client:

            async def opinion(case: Case) -> Opinion | None:
                async with in_flight:
                    return await self._ask(client, case)

            return await asyncio.gather(*map(opinion, cases))

    async def _ask(self, client: httpx.AsyncClient, case: Case) -> Opinion | None:
        if self._failed_in_a_row >= _FAILURES:
            return None
        body = {
            "model": self._prompt.model,
            "messages": [{"role": "user", "content": self._prompt.render(case)}],
            "temperature": 0,
            "max_tokens": self._prompt.max_tokens,
        }
        reply = await self._post(client, body)
        self._failed_in_a_row = 0 if reply is not None else self._failed_in_a_row + 1
        return None if reply is None else read_opinion(reply)

    async def _post(self, client: httpx.AsyncClient, body: dict[str, Any]) -> Any:
        """A reply, tried again on errors that pass; None when there is none, or it refuses."""
        found = await server.tried(client, "chat/completions", body, self._settings)
        if isinstance(found, str):
            return None
        if found.status_code in _WRONG:
            raise server.refusal(found, self._settings, KEYS)
        if not found.is_success:
            return None
        with suppress(EngineError):
            return server.json_of(found)
        return {}  # An answer that says nothing: malformed.
