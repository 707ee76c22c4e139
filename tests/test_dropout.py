"""Where responses are cut, and that the joint neither loses nor doubles anything."""

from __future__ import annotations

import re
import time
import unicodedata
from collections.abc import Sequence

import pytest
from hypothesis import example, given, strategies as st

from mmpr_builder.dropout import Cut, Part, cut_tokens, joint, truncate
from mmpr_builder.errors import ConfigError

# text, keep, what is kept
CUTS = [
    ("The cat sat on the mat.", 0.5, "The cat sat"),
    ("The cat sat on the mat.", 0.25, "The cat"),
    ("Hello, world", 0.5, "Hello,"),
    ("图中有一只猫睡在垫子上", 0.5, "图中有一只猫"),
    ("图中有3.14个苹果", 0.45, "图中有"),
    ("有三个red shapes在图里", 0.5, "有三个red"),
    ("すべての猫が寝ている", 0.5, "すべての猫"),
    ("It is 3.14159265358979 long", 0.4, "It is"),
    ("about 1,000,000,000 dollars", 0.4, "about"),
    (r"so \frac{123456}{789012} is it", 0.4, "so"),
    (r"so \boxed{\frac{12}{34}} ok", 0.3, "so"),
    ("look <image_placeholder> now", 0.5, "look"),
    ("end<|im_end|>of it all", 0.5, "end<|im_end|>of"),
    ("**Final answer:** seven", 0.85, "**Final answer:**"),
    ("one\n\ntwo three", 0.3, "one"),
    ("don't won't can't", 0.5, "don't"),
    ("x-axis y-axis", 0.4, "x-axis"),
    ("ก้าวไปข้างหน้า", 0.5, "ก้าวไป"),
    ("word", 0.5, "word"),
    ("two words", 0.01, "two"),
    ("two words", 0.95, "two"),
    ("", 0.5, ""),
    ("  leading blank", 0.5, "  leading"),
    ("   ", 0.5, "   "),
    ("anything at all", 0, ""),
    ("anything at all", 1, "anything at all"),
]


@pytest.mark.parametrize(("text", "keep", "expected"), CUTS)
def test_the_cut_falls_on_a_clean_boundary(text: str, keep: float, expected: str) -> None:
    assert truncate(text, keep) == expected


WHOLE = [
    r"\frac{1}{2}",
    "3.14",
    "1,000",
    "-5",
    "12:30",
    "<image>",
    "<|im_start|>",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467",  # a family, joined
    "\U0001f44d\U0001f3fd",  # thumb with skin tone
    "\U0001f1e9\U0001f1ea",  # a flag
    "e\u0301a\u0300",  # combining marks
    "क्षत्रिय",
    "can't",
    "https://example.org/a/b.html?c=d",
    "パーティー",
]


@pytest.mark.parametrize("keep", [-0.1, 1.5, float("nan")])
def test_a_share_that_is_none_is_an_error(keep: float) -> None:
    with pytest.raises(ConfigError, match="a number from 0 to 1"):
        truncate("one two three", keep)


@pytest.mark.parametrize("unit", WHOLE)
@pytest.mark.parametrize("keep", [0.1, 0.3, 0.5, 0.7, 0.9])
def test_no_unit_is_cut_in_two(unit: str, keep: float) -> None:
    assert truncate(f"aa {unit} bb", keep) in ("aa", f"aa {unit}")
    assert truncate(f"猫{unit}犬", keep) in ("猫", f"猫{unit}")
    assert truncate(unit, keep) == unit


@given(st.text(max_size=80), st.floats(0.01, 0.95))
@example("\u0301\u0301", 0.5)
@example("\U0001f1e9\U0001f1ea\U0001f1eb\U0001f1f7", 0.5)
@example("\\" * 9, 0.5)
def test_a_cut_is_a_prefix_without_trailing_blank_and_never_empty(text: str, keep: float) -> None:
    kept = truncate(text, keep)
    assert text.startswith(kept)
    assert bool(kept) == bool(text)
    if kept != text:
        assert not kept[-1].isspace()
        assert unicodedata.category(text[len(kept)])[0] != "M"


@given(st.lists(st.sampled_from(["cat", "猫", "3.14", ",", "。", "dog"]), min_size=2, max_size=30))
def test_more_than_one_word_is_never_kept_whole(words: list[str]) -> None:
    text = " ".join(words)
    assert truncate(text, 0.95) != text
    assert truncate(text, 0.01) != ""


@pytest.mark.parametrize("text", ["a" * 50_000, "\\a{" * 8_000, "<" * 50_000, "\u0301" * 20_000])
def test_hostile_text_costs_little_time(text: str) -> None:
    start = time.perf_counter()
    truncate(text, 0.5)
    assert time.perf_counter() - start < 300


class Bytes:
    """A byte-level tokenizer: tokens are pieces of the text's UTF-8."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = pieces

    def decode(self, ids: Sequence[int]) -> str:
        return b"".join(self.pieces[i] for i in ids).decode("utf-8", "replace")


class WordStarts(Bytes):
    """Like SentencePiece: blanks belong to the word behind them, the very first is dropped."""

    def decode(self, ids: Sequence[int]) -> str:
        text = super().decode(ids)
        return text.removeprefix(" ")


def test_tokens_are_cut_nearest_to_the_kept_part_of_them() -> None:
    tokenizer = Bytes(b"The", b" cat", b" s", b"at", b" on", b" the", b" mat", b".")
    cut = cut_tokens(range(8), "The cat sat on the mat.", 0.5, tokenizer.decode)
    assert cut == Cut((0, 1, 2, 3), "The cat sat")
    inside_a_word = cut_tokens(range(8), "The cat sat on the mat.", 3 / 8, tokenizer.decode)
    assert inside_a_word == Cut((0, 1), "The cat")


def test_a_character_spelt_in_bytes_is_not_cut() -> None:
    tokenizer = Bytes(*(bytes([b]) for b in "图中有猫".encode()))
    cut = cut_tokens(range(12), "图中有猫", 0.6, tokenizer.decode)
    assert cut == Cut(tuple(range(6)), "图中")


def test_a_token_that_ends_in_a_blank_is_not_the_last_one_kept() -> None:
    tokenizer = Bytes(b"The ", b"cat ", b"sat", b" down")
    cut = cut_tokens(range(4), "The cat sat down", 0.5, tokenizer.decode)
    assert cut == Cut((0, 1, 2), "The cat sat")


def test_a_blank_that_the_tokenizer_swallows_is_kept_in_the_prefix_and_at_the_joint() -> None:
    tokenizer = WordStarts(b" The", b" cat", b" sat", b" down", b" slept")
    cut = cut_tokens(range(4), " The cat sat down", 0.5, tokenizer.decode)
    assert cut == Cut((0, 1), " The cat", lead=" ")
    assert joint(cut, [4], "slept", tokenizer.decode) == " slept"


def test_a_text_that_ends_inside_a_character_loses_that_character_only() -> None:
    half = "图".encode()[:2]
    tokenizer = Bytes(b"The", b" cat", b" sat", b" down", half, b" slept")
    cut = cut_tokens(range(5), "The cat sat down", 0.5, tokenizer.decode)
    assert cut == Cut((0, 1), "The cat")
    assert joint(cut, [5, 4], " slept", tokenizer.decode) == " slept"
    swallowing = WordStarts(b" The", b" cat", b" sat", b" down", half, b" slept")
    cut = cut_tokens(range(5), " The cat sat down", 0.5, swallowing.decode)
    assert cut == Cut((0, 1), " The cat", lead=" ")
    assert joint(cut, [5, 4], "slept", swallowing.decode) == " slept"


def test_text_that_does_not_decode_again_is_joined_as_the_engine_gave_it() -> None:
    tokenizer = Bytes(b"other", b" text")
    assert joint(Cut((0,), "The cat"), [1], " sat", tokenizer.decode) == " sat"


def test_what_cannot_be_cut_gives_none() -> None:
    assert cut_tokens([0], "word", 0.5, Bytes(b"word").decode) is None
    assert cut_tokens([], "", 0.5, Bytes().decode) is None
    assert cut_tokens([0, 1], "猫", 0.5, Bytes("猫".encode()[:1], "猫".encode()[1:]).decode) is None
    assert cut_tokens([0, 1], "other words", 0.5, Bytes(b"not", b" it").decode) is None


def test_keeping_nothing_is_a_cut_too() -> None:
    assert cut_tokens([0, 1], "two words", 0.0, Bytes(b"two", b" words").decode) == Cut((), "")


THOUGHT, ANSWER = "<think>\none two three four</think>", " Five six seven eight"
PARTS = [
    # part, keep, what is kept
    ("whole", 0.5, "<think>\none two three four"),
    ("thought", 0.5, "<think>\none two"),
    ("thought", 0.0, "<think>"),
    ("thought", 1.0, "<think>\none two three four"),
    ("answer", 0.5, f"{THOUGHT} Five six"),
    ("answer", 0.0, THOUGHT),
]


@pytest.mark.parametrize(("part", "keep", "kept"), PARTS)
def test_the_cut_falls_in_the_part_that_is_set(part: Part, keep: float, kept: str) -> None:
    words = re.findall(r"<think>|</think>|\s?\w+", THOUGHT + ANSWER)
    tokens = Bytes(*(word.encode() for word in words))
    cut = cut_tokens(range(len(words)), THOUGHT + ANSWER, keep, tokens.decode, part)
    assert cut is not None
    assert cut.text == kept == tokens.decode(cut.ids)
    if part != "whole":  # By characters it is in the middle of the tag.
        assert truncate(THOUGHT + ANSWER, keep, part) == kept


@pytest.mark.parametrize(("part", "keep", "kept"), [p for p in PARTS if p[:2] != ("thought", 0.0)])
def test_a_thought_that_the_prompt_opens_is_cut_likewise(
    part: Part, keep: float, kept: str
) -> None:
    words = re.findall(r"</think>|\s?\w+", THOUGHT.removeprefix("<think>") + ANSWER)
    tokens = Bytes(*(word.encode() for word in words))
    cut = cut_tokens(range(len(words)), THOUGHT + ANSWER, keep, tokens.decode, part)
    assert cut is not None
    assert (cut.lead, cut.text) == ("<think>", kept)
    assert joint(cut, [0], "?", tokens.decode) == "\none"


def test_a_continuation_of_nothing_begins_with_what_the_prompt_opens() -> None:
    assert cut_tokens([0, 1], "<think>a b", 0, Bytes(b"a", b" b").decode) == Cut(
        (), "<think>", "<think>"
    )


def test_a_response_without_a_thought_is_all_answer_and_an_open_one_has_no_part() -> None:
    decode = Bytes(b"a", b" b", b" c", b" d").decode
    assert cut_tokens(range(4), "a b c d", 0.5, decode, "answer") == Cut((0, 1), "a b")
    assert cut_tokens(range(4), "a b c d", 0.5, decode, "thought") is None
    for part in ("thought", "answer"):
        assert cut_tokens(range(4), "<think>a b c d", 0.5, decode, part) is None
        assert truncate("<think>a b", 0.5, part) == "<think>a b"


@given(st.text(min_size=1, max_size=60), st.data())
def test_prefix_and_rest_make_the_response_again(text: str, data: st.DataObject) -> None:
    raw = text.encode("utf-8", "replace")
    sizes = data.draw(st.lists(st.integers(1, 6), min_size=len(raw), max_size=len(raw)))
    pieces, start = [], 0
    for size in sizes:
        pieces.append(raw[start : start + size])
        start += size
    tokenizer = Bytes(*(piece for piece in pieces if piece))
    ids = range(len(tokenizer.pieces))
    whole = tokenizer.decode(ids)
    cut = cut_tokens(ids, whole, 0.5, tokenizer.decode)
    if cut is not None:
        rest = [i for i in ids if i >= len(cut.ids)]
        assert cut.text + joint(cut, rest, "", tokenizer.decode) == whole
        assert cut.text
        assert not cut.text[-1].isspace()
