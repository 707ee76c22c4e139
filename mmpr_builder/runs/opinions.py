"""Opinions of the optional judge, kept beside the rollouts so that none is asked for twice.

    out/judge/unit-00003.parquet       key, opinion, reply, truths, answer
    out/judge/unit-00003-150.parquet   of a piece of a part, where the build was extended
    out/judge/pool-00003.parquet       of a piece of pooled builds
    out/judge/asked.json               written when every question of a pairing has its answer

A part's undecided answers are asked for together, then the part is judged again with the opinions
at hand: pairing stays a pure function, of the rollouts and of this folder.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import pyarrow as pa

from mmpr_builder.config import Config
from mmpr_builder.engines.llm_judge import Arbiter, Case, Opinion, Prompt, check, load_prompt
from mmpr_builder.escaping import redacted
from mmpr_builder.folder.files import exists, join, read_json, write_json
from mmpr_builder.folder.order import Slice
from mmpr_builder.io.stores import names_in
from mmpr_builder.io.tables import is_complete, plain, read_parquet, to_table, write_parquet
from mmpr_builder.pairing import Scores
from mmpr_builder.records import Outcome, Style, Verdict, content_id
from mmpr_builder.runs.pooling import PooledSlice

SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("key", "opinion", "reply")),
        ("truths", pa.list_(pa.string())),
        ("answer", pa.string()),
    ]
)
"""One row per opinion; `key` is the hash of model, prompt and case."""

_OUTCOMES: Mapping[str, Outcome] = {"SAME": "correct", "DIFFERENT": "incorrect"}
_NOT_ASKED = frozenset({"unusable_truth", "no_truth"})
"""Undecided for want of a truth: there is nothing to compare with."""

Result = TypeVar("Result")


class Settled:
    """A judge whose undecided verdicts follow the opinions at hand; notes what is still open."""

    def __init__(self, judge: Scores, prompt: Prompt, opinions: Mapping[str, Opinion]) -> None:
        self._judge = judge
        self._prompt = prompt
        self._opinions = opinions
        self._decided: dict[tuple[object, ...], Verdict] = {}
        self.open: dict[str, Case] = {}
        """Cases without an opinion, by key, in the order they came up."""
        self.used: set[str] = set()
        """Keys of the opinions that were used."""
        self.not_asked: set[str] = set()
        """Answers that may not be asked about."""

    def begin(self) -> None:
        """Forget what came up, for another pass over the same texts."""
        self.open, self.used, self.not_asked = {}, set(), set()

    def score_answer(
        self,
        predicted: str | None,
        gold: str | Sequence[str],
        *,
        scorer: str = "auto",
        choices: Sequence[str] | None = None,
        question: str | None = None,
    ) -> Verdict:
        """By the rules alone: who asks compares answers with one another, not with a truth."""
        return self._judge.score_answer(
            predicted, gold, scorer=scorer, choices=choices, question=question
        )

    def score_response(
        self,
        text: str,
        gold: Sequence[str],
        *,
        style: Style,
        scorer: str,
        choices: Sequence[str] | None,
        question: str | None,
    ) -> Verdict:
        """See `pairing.Scores`. A verdict that an opinion settled has the rule `judge:MODEL`."""
        seen = (text, tuple(gold), style, scorer, tuple(choices or ()), question)
        verdict = self._decided.get(seen)
        if verdict is None:
            verdict = self._decided[seen] = self._judge.score_response(
                text, gold, style=style, scorer=scorer, choices=choices, question=question
            )
        if verdict.outcome != "undecided" or verdict.rule in _NOT_ASKED or not verdict.answer:
            return verdict
        case = Case(question or "", tuple(gold), tuple(choices or ()), verdict.answer)
        if not case.may_be_asked:
            self.not_asked.add(verdict.answer)
            return verdict
        key = self._prompt.key(case)
        opinion = self._opinions.get(key)
        if opinion is None:
            self.open[key] = case
            return verdict
        self.used.add(key)
        outcome = _OUTCOMES.get(opinion.word)
        if outcome is None:
            return verdict
        reason = f"asked because undecided ({verdict.rule}: {verdict.reason}): {opinion.word}"
        return Verdict(outcome, verdict.answer, f"judge:{self._prompt.model}", reason)


class OpinionGiver:
    """Holds the arbiter's connections and settles one part after the other."""

    def __init__(self, config: Config) -> None:
        self._out = config.out
        self._prompt = load_prompt(config.scoring.judge)
        self._arbiter = Arbiter(config.scoring.judge)
        self._names: list[str] | None = None

    def close(self) -> None:
        self._arbiter.close()

    def settle(
        self, piece: Slice | PooledSlice, judge: Scores, work: Callable[[Scores], Result]
    ) -> tuple[Result, Counter[str]]:
        """What `work` gives with this part's opinions, and what was asked for them.

        The counts are `asked`, `kept` (asked in an earlier run), `malformed`, `failed` (no answer
        came; tried again the next time) and `not_asked` (too long, or with control tokens).
        Opinions are on disk before it returns.
        """
        uri = join(self._out, "judge", f"{piece.name}.parquet")
        rows = self._kept(piece) | _read(uri)
        opinions = {key: Opinion(row["opinion"], row["reply"]) for key, row in rows.items()}
        tried: set[str] = set()
        asked = 0
        scores = Settled(judge, self._prompt, opinions)
        while True:
            scores.begin()
            result = work(scores)
            # An answer that turns out right brings up its continuation, so there may be more.
            cases = {key: case for key, case in scores.open.items() if key not in tried}
            if not cases:
                break
            tried.update(cases)
            answers = self._arbiter.ask(list(cases.values()))
            for (key, case), opinion in zip(cases.items(), answers, strict=True):
                if opinion is not None:
                    opinions[key], asked = opinion, asked + 1
                    rows[key] = _row(key, case, opinion)
        if asked:
            write_parquet(to_table([rows[key] for key in sorted(rows)], SCHEMA), uri)
        malformed = sum(opinions[key].word == "MALFORMED" for key in scores.used)
        return result, Counter(
            asked=asked,
            kept=len(scores.used - tried),
            malformed=malformed,
            failed=len(scores.open),
            not_asked=len(scores.not_asked),
        )

    def _kept(self, piece: Slice | PooledSlice) -> dict[str, dict[str, Any]]:
        """What was asked for other pieces of the same part: each time a build is extended its
        parts can be cut in other places. For pooled builds, what each of them asked by itself."""
        if isinstance(piece, PooledSlice):
            return {k: row for uri in piece.uris for k, row in _read(_beside(uri)).items()}
        if piece.is_whole:
            return {}
        if self._names is None:
            self._names = names_in(join(self._out, "judge"))
        mine = re.compile(rf"{re.escape(piece.stem)}(-\d+)?\.parquet")
        rows: dict[str, dict[str, Any]] = {}
        for name in self._names:
            if mine.fullmatch(name):
                rows |= _read(join(self._out, "judge", name))
        return rows


def check_judge(config: Config, seeds: int) -> None:
    """Raise `SetupError` unless the judge can be asked, or has answered everything before."""
    settings = config.scoring.judge
    if settings.url is None:
        return
    load_prompt(settings)
    mark = join(config.out, "judge", "asked.json")
    if not (exists(mark) and read_json(mark) == {"asked": _what_is_asked(config, seeds)}):
        check(settings)


def note_all_asked(config: Config, seeds: int) -> None:
    """Remember that every question of this config has its answer: the server may go."""
    write_json(join(config.out, "judge", "asked.json"), {"asked": _what_is_asked(config, seeds)})


def _what_is_asked(config: Config, seeds: int) -> str:
    """A hash over all that decides which questions there are; `seeds`: how many were read, which
    only ever grows."""
    from mmpr_builder.scoring import SCORER_VERSION

    settings = redacted(config.model_dump(mode="json", include={"scoring", "seeds", "rollouts"}))
    for source in settings["seeds"]:
        for key in ("roots", "allow"):  # Earlier versions did not know them.
            if not source[key]:
                del source[key]
    if not settings["rollouts"]:
        del settings["rollouts"]
    for key in ("url", "api_key_env", "concurrency", "timeout_s", "retries"):
        del settings["scoring"]["judge"][key]
    text = load_prompt(config.scoring.judge).text
    return content_id(SCORER_VERSION, text, json.dumps(settings, sort_keys=True), str(seeds))


def _beside(uri: str) -> str:
    """Where the build of a part of rollouts keeps the opinions on it."""
    folder, _, name = uri.rpartition("/")
    return join(folder.rpartition("/")[0], "judge", name)


def _read(uri: str) -> dict[str, dict[str, Any]]:
    if not is_complete(uri, SCHEMA):
        return {}
    return {row["key"]: row for row in read_parquet(uri).to_pylist()}


def _row(key: str, case: Case, opinion: Opinion) -> dict[str, Any]:
    return {
        "key": key,
        "opinion": opinion.word,
        "reply": plain(opinion.reply),
        "truths": plain(case.truths),
        "answer": plain(case.answer),
    }
