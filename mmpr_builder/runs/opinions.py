"""The LLM judge's opinions, kept beside the rollouts so that none is asked for twice.

    out/judge/unit-00003.parquet       key, opinion, reply, truths, answer
    out/judge/unit-00003-150.parquet   for a slice of a part, where the build was extended
    out/judge/pool-00003.parquet       for a slice of pooled builds
    out/judge/asked.json               written when every question of a pairing has its answer

All undecided answers of a part go to the LLM judge together, then the part is scored again with
their opinions: pairing stays a pure function, of the rollouts and of this folder.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import pyarrow as pa

from mmpr_builder.config import Config
from mmpr_builder.engines.llm_judge import Case, LLMJudge, Opinion, Prompt, check, load_prompt
from mmpr_builder.escaping import redacted
from mmpr_builder.folder import join, read_json, write_json
from mmpr_builder.folder.order import Slice
from mmpr_builder.io.stores import is_there, names_in
from mmpr_builder.io.tables import is_complete, plain, read_parquet, to_table, write_parquet
from mmpr_builder.pairing import Scores
from mmpr_builder.pairing.verdicts import judge_text
from mmpr_builder.records import Asked, Outcome, Style, Verdict, content_id
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
    """Scores by the rules, then undecided answers by the opinions of the LLM judge."""

    def __init__(self, judge: Scores, prompt: Prompt, opinions: Mapping[str, Opinion]) -> None:
        self._judge = judge
        self._prompt = prompt
        self._opinions = opinions
        self._by_rules: dict[tuple[str, Asked], Verdict] = {}
        self.begin()

    def begin(self) -> None:
        """Forget what came up, for another pass over the same texts."""
        self.open: dict[str, Case] = {}
        """Cases without an opinion, by key, in the order they came up."""
        self.used: set[str] = set()
        """Keys of the opinions that were used."""
        self.not_asked: set[str] = set()
        """Answers that may not be asked about."""

    def score_answer(self, predicted: str | None, gold: Sequence[str], **asked: Any) -> Verdict:
        """By the rules alone: this compares answers with one another, not with a truth."""
        return self._judge.score_answer(predicted, gold, **asked)

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
        asked = Asked(tuple(gold), scorer, tuple(choices or ()), question, style)
        verdict = self._by_rules.get((text, asked))
        if verdict is None:
            verdict = self._by_rules[text, asked] = judge_text(self._judge, text, asked)
        if verdict.outcome != "undecided" or verdict.rule in _NOT_ASKED or not verdict.answer:
            return verdict
        case = Case(question or "", asked.golds, asked.choices, verdict.answer)
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
    """Settles one part after the other with the LLM judge."""

    def __init__(self, config: Config) -> None:
        self._out = config.out
        self._prompt = load_prompt(config.scoring.judge)
        self._llm_judge = LLMJudge(config.scoring.judge)
        self._names: list[str] | None = None

    def settle(
        self, piece: Slice | PooledSlice, judge: Scores, work: Callable[[Scores], Result]
    ) -> tuple[Result, Counter[str]]:
        """The result of `work` with this part's opinions, and counts of what was asked.

        The counts are `asked`, `kept` (asked in an earlier run), `malformed`, `failed` (no answer
        came; the next run tries again) and `not_asked` (too long, or with control tokens).
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
            # A right answer brings up its continuation, so there may be more cases.
            cases = {key: case for key, case in scores.open.items() if key not in tried}
            if not cases:
                break
            tried.update(cases)
            answers = self._llm_judge.ask(list(cases.values()))
            for (key, case), opinion in zip(cases.items(), answers, strict=True):
                if opinion is not None:
                    opinions[key], asked = opinion, asked + 1
                    told = (key, opinion.word, opinion.reply, case.truths, case.answer)
                    rows[key] = dict(zip(SCHEMA.names, plain(told), strict=True))
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
        """Opinions on other slices of the same part, since every extension of a build can cut its
        parts in other places; for pooled builds the opinions of each build."""
        if isinstance(piece, PooledSlice):
            return {k: row for uri in piece.uris.values() for k, row in _read(_beside(uri)).items()}
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
    """Raise `SetupError` unless the LLM judge answers, or has answered everything before."""
    settings = config.scoring.judge
    if settings.url is None:
        return
    load_prompt(settings)
    mark = join(config.out, "judge", "asked.json")
    if not (is_there(mark) and read_json(mark) == {"asked": _what_is_asked(config, seeds)}):
        check(settings)


def note_all_asked(config: Config, seeds: int) -> None:
    """Note that every question of this config has its answer: the server is not needed again."""
    write_json(join(config.out, "judge", "asked.json"), {"asked": _what_is_asked(config, seeds)})


def _what_is_asked(config: Config, seeds: int) -> str:
    """A hash over what decides which questions there are; `seeds` is how many were read, which
    only ever grows."""
    from mmpr_builder.scoring import SCORER_VERSION

    settings = redacted(config.model_dump(mode="json", include={"scoring", "seeds", "rollouts"}))
    for source in settings["seeds"]:
        for key in ("roots", "allow"):  # Earlier versions did not know them.
            if not source[key]:
                del source[key]
    if not settings["rollouts"]:
        del settings["rollouts"]
    for key in ("url", "api_key_env", "concurrency", "timeout_s", "retries", "open"):
        del settings["scoring"]["judge"][key]
    text = load_prompt(config.scoring.judge).text
    return content_id(SCORER_VERSION, text, json.dumps(settings, sort_keys=True), str(seeds))


def _beside(uri: str) -> str:
    """The file of opinions beside a part of rollouts."""
    folder, _, name = uri.rpartition("/")
    return join(folder.rpartition("/")[0], "judge", name)


def _read(uri: str) -> dict[str, dict[str, Any]]:
    if not is_complete(uri, SCHEMA):
        return {}
    return {row["key"]: row for row in read_parquet(uri).to_pylist()}
