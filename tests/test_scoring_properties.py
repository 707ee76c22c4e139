"""Properties of scoring: reflexive, symmetric, blind to dress, no changed answer accepted.

The runs are the same every time; `make fuzz` runs many more and other ones (`MMPR_FUZZ=5000`
examples of each property).
"""

from __future__ import annotations

import json
import os
import random
import string
import time
from fractions import Fraction
from pathlib import Path

from hypothesis import given, settings, strategies as st

from mmpr_builder.extraction import STYLES, extract_answer
from mmpr_builder.records import Verdict
from mmpr_builder.scoring import Judge
from mmpr_builder.scoring.clean import clean
from mmpr_builder.scoring.decision import Decision, Query
from mmpr_builder.scoring.latex import compact, plain
from mmpr_builder.scoring.maths.structure import parse
from mmpr_builder.scoring.numbers.number import parse_number, parse_words
from mmpr_builder.scoring.numbers.quantity import parse_compound, parse_quantity
from mmpr_builder.scoring.numbers.readings import is_label, read_date
from mmpr_builder.scoring.numbers.units import parse_unit
from mmpr_builder.scoring.words.choice import compare_choice, read_gold

SCORERS = ("auto", "math", "choice", "relaxed", "vqa", "anls", "exact")


def _undecided(query: Query) -> Decision:
    """No symbolic mathematics: what is asked of it counts as not known."""
    return Decision(None, "symbolic")


FUZZ = int(os.environ.get("MMPR_FUZZ", "0"))
unhurried = settings(deadline=None, derandomize=not FUZZ, max_examples=FUZZ or 80, database=None)
"""A machine under load stalls; what is measured is measured in CPU time below."""
JUDGE = Judge(symbolic=_undecided)
numbers = st.integers(-(10**9), 10**9)
decimals = st.decimals(-(10**6), 10**6, places=3, allow_nan=False).map(lambda d: f"{d:f}")
words = st.text(alphabet=string.ascii_lowercase + " ", min_size=1, max_size=20)
letters = st.sampled_from("ABCD")


def judged(answer: str, gold: str, **options: object) -> Verdict:
    """What the judge says; that a rule failed is an answer to it, and an error here."""
    verdict = JUDGE.score_answer(answer, gold, **options)  # type: ignore[arg-type]
    assert not verdict.rule.startswith("error:"), verdict.reason
    return verdict


def outcome(answer: str, gold: str, **options: object) -> str:
    return judged(answer, gold, **options).outcome


@unhurried
@given(st.text(max_size=60), st.sampled_from(SCORERS))
def test_every_usable_truth_equals_itself(text: str, scorer: str) -> None:
    assert outcome(text, text, scorer=scorer) in (
        ("correct",)
        if text.strip() and clean(text).strip("$*`\\ ")
        else ("undecided", "no_answer", "correct")
    )


@unhurried
@given(decimals, decimals)
def test_math_on_numbers_is_symmetric(left: str, right: str) -> None:
    assert outcome(left, right, scorer="math") == outcome(right, left, scorer="math")


DRESSES = (
    "{}<|im_end|>", "{}</s>", "{}<|endoftext|>", "\u200b{}\ufeff", "\u00a0{}\u3000",
    "${}$.", "\\displaystyle {}",
    " {} ", "{}.", "${}$", "$${}$$", "\\({}\\)", "\\[{}\\]", "\\boxed{{{}}}", "**{}**", "`{}`",
    "\\text{{{}}}", "\\mathbf{{{}}}", '"{}"', "{}\n", "**${}$**", "\\boxed{{\\text{{{}}}}}",
)  # fmt: skip


@unhurried
@given(st.one_of(numbers.map(str), decimals, letters), st.sampled_from(DRESSES))
def test_dress_does_not_count(answer: str, dress: str) -> None:
    for scorer in ("auto", "math", "vqa", "anls"):
        assert outcome(dress.format(answer), answer, scorer=scorer) == "correct"


@unhurried
@given(numbers)
def test_full_width_and_grouped_digits_are_the_same_number(value: int) -> None:
    full = "".join(chr(ord(char) + 0xFEE0) for char in str(value))
    for written in (full, f"{value:,}", f"{value:,}".replace(",", "{,}"), f"{value}.0"):
        assert outcome(written, str(value), scorer="math") == "correct"


@unhurried
@given(numbers, st.integers(0, 8), st.integers(1, 9))
def test_a_changed_digit_is_never_accepted(value: int, place: int, shift: int) -> None:
    digits = list(str(abs(value)))
    place %= len(digits)
    digits[place] = str((int(digits[place]) + shift) % 10)
    changed = ("-" if value < 0 else "") + "".join(digits)
    for scorer in ("auto", "math", "vqa", "anls", "exact", "choice"):
        assert outcome(changed, str(value), scorer=scorer) == "incorrect"


@unhurried
@given(decimals.filter(lambda text: float(text) != 0))
def test_a_changed_sign_is_never_accepted(value: str) -> None:
    flipped = value[1:] if value.startswith("-") else "-" + value
    for scorer in ("auto", "math", "vqa", "anls", "relaxed"):
        assert outcome(flipped, value, scorer=scorer) == "incorrect"


UNITS = ("cm", "m", "km", "cm^2", "cm^3", "kg", "g", "hours", "minutes", "°", "%", "km/h", "m/s")


@unhurried
@given(st.integers(2, 10**6), st.sampled_from(UNITS), st.sampled_from(UNITS))
def test_another_unit_is_never_accepted(value: int, left: str, right: str) -> None:
    expected = "correct" if left == right else "incorrect"
    assert outcome(f"{value} {left}", f"{value} {right}", scorer="math") == expected


@unhurried
@given(letters, letters, st.sampled_from(("{}", "({})", "{}.", "**{}**", "选{}", "Option {}")))
def test_another_option_is_never_accepted(said: str, gold: str, dress: str) -> None:
    options = ("a cat", "a dog", "a bird", "a fish")
    expected = "correct" if said == gold else "incorrect"
    assert outcome(dress.format(said), gold, choices=options) == expected
    text = options["ABCD".index(said)]
    assert outcome(text, gold, choices=options) == expected
    assert outcome(f"{said}. {text}", gold, choices=options) == expected


@unhurried
@given(letters, letters)
def test_two_options_are_no_answer_to_a_question_with_one(left: str, right: str) -> None:
    for joined in (f"{left} or {right}", f"{left}/{right}", f"{left}或{right}"):
        if left != right:
            assert outcome(joined, left, choices=("1", "2", "3", "4")) != "correct"


@unhurried
@given(st.lists(st.integers(-99, 99), min_size=2, max_size=5), st.randoms())
def test_lists_and_sets_have_no_order_and_tuples_have(items: list[int], rng: object) -> None:
    shuffled = sorted(items)
    listed, other = (", ".join(map(str, part)) for part in (items, shuffled))
    assert outcome(other, listed, scorer="math") == "correct"
    assert outcome(f"\\{{{other}\\}}", f"\\{{{listed}\\}}", scorer="math") == "correct"
    expected = "correct" if shuffled == items else "incorrect"
    assert outcome(f"({other})", f"({listed})", scorer="math") == expected


@unhurried
@given(st.fractions(max_denominator=99))
def test_a_fraction_is_written_in_many_ways(value: Fraction) -> None:
    top, low = value.numerator, value.denominator
    for written in (f"{top}/{low}", f"\\frac{{{top}}}{{{low}}}", f"\\dfrac{{{top}}}{{{low}}}"):
        number = parse_number(compact(plain(written)))
        assert number is not None
        assert number.value == value


@unhurried
@given(st.integers(1, 10**6))
def test_chart_values_have_five_percent_and_not_more(value: int) -> None:
    truth = f"{value}.0"
    inside, outside = (
        f"{value * part // 10**4}.{value * part % 10**4:04d}" for part in (10500, 10501)
    )
    assert outcome(inside, truth, scorer="relaxed") == "correct"
    assert outcome(outside, truth, scorer="relaxed") == "incorrect"


MATHS = st.text(
    alphabet="0123456789xyab+-*/^_{}()[]\\|!.,;:=<>$% \nfracsqrtpi°√²½∞或和", max_size=120
)


@unhurried
@given(MATHS, MATHS, st.sampled_from(SCORERS))
def test_no_text_breaks_or_stalls_scoring(answer: str, gold: str, scorer: str) -> None:
    start = time.process_time()
    verdict = judged(answer, gold, scorer=scorer, choices=None)
    assert verdict.outcome in ("correct", "incorrect", "no_answer", "undecided")
    assert time.process_time() - start < 20


@unhurried
@given(st.text(max_size=200))
def test_no_text_breaks_the_parsers(text: str) -> None:
    cleaned = clean(text)
    flat = plain(cleaned)
    compact(flat)
    parse(flat)
    parse_quantity(flat)
    parse_unit(flat)
    parse_words(flat)


def test_numbers_that_python_takes_but_nobody_writes_are_no_numbers() -> None:
    for text in ("1_0", "nan", "inf", "-inf", "0x10", "0b1", "١٢", "1e", "e5", "--5", "5-", "1,00"):
        assert parse_number(text) is None


def test_long_pathological_answers_are_cheap() -> None:
    for piece in (
        "{",
        "(",
        "\\frac",
        "\\sqrt",
        "1,",
        "a ",
        "$",
        "\\text{",
        "^",
        "或",
        "x=",
        "1/",
        "is ",
    ):
        answer = (piece * 2000)[:1990]
        start = time.process_time()
        for scorer in SCORERS:
            judged(answer, "12, 13", scorer=scorer)
        assert time.process_time() - start < 60, piece


SCORERS_OF_WORDS = ("vqa", "anls", "math", "auto")


@unhurried
@given(words, words, st.sampled_from(SCORERS_OF_WORDS))
def test_words_are_compared_symmetrically(left: str, right: str, scorer: str) -> None:
    one, other = outcome(left, right, scorer=scorer), outcome(right, left, scorer=scorer)
    plain_words = all(len(word) > 3 for word in (left + " " + right).split())
    if plain_words and left.strip() and right.strip():
        assert (one == "correct") == (other == "correct")


@unhurried
@given(numbers, st.sampled_from(("auto", "math", "vqa", "anls", "relaxed")))
def test_a_full_width_number_is_the_same_number(value: int, scorer: str) -> None:
    full = "".join(chr(ord(char) + 0xFEE0) for char in str(value))
    assert outcome(full, str(value), scorer=scorer) == "correct"


@unhurried
@given(st.integers(1700, 2100), st.integers(1, 400))
def test_another_year_is_never_accepted_from_a_chart(year: int, shift: int) -> None:
    assert outcome(str(year + shift), str(year), scorer="relaxed") == "incorrect"


@unhurried
@given(st.integers(1, 10**6), st.sampled_from(UNITS), st.sampled_from(UNITS))
def test_no_scorer_accepts_another_unit(value: int, left: str, right: str) -> None:
    for scorer in ("math", "auto", "vqa", "anls", "relaxed", "exact"):
        found = outcome(f"{value} {left}", f"{value} {right}", scorer=scorer)
        assert (found == "correct") == (left == right)


@unhurried
@given(st.lists(letters, min_size=1, max_size=4, unique=True), st.sets(letters, min_size=1))
def test_several_options_are_a_set(said: list[str], wanted: set[str]) -> None:
    expected = "correct" if set(said) == wanted else "incorrect"
    gold = "".join(sorted(wanted))
    for joined in ("".join(said), ", ".join(said), "、".join(said)):
        assert outcome(joined, gold, choices=("1", "2", "3", "4")) == expected


CASES = Path(__file__).parent / "cases"
REAL = [
    (case["scorer"], gold, tuple(case.get("choices") or ()), answer)
    for path in sorted(CASES.glob("scoring_answers*.json"))
    for case in json.loads(path.read_text("utf-8"))
    for gold in ([case["gold"]] if isinstance(case["gold"], str) else case["gold"][:1])
    for answer in (*case["right"], *case["wrong"])
]
PIECES = (
    "\\frac{", "}", "{", "(", ")", "[", "\\sqrt", "^", "_", "$", "\\", ",", "或", "和", " or ", "-",
    "%", "=", "<", "\\text{", "\\begin{cases}", "\\cr", "°", "'", "|", "é", "\u0301", "\ud800", "0",
    "9", "x", "\n", "&", "①", "万", "½", "√", "±", "!", ":", "/", ".", "...", "K",
)  # fmt: skip


def mutate(text: str, rng: random.Random) -> str:
    """Real-looking text, damaged: pieces dropped, doubled, swapped, put in."""
    for _ in range(rng.randint(1, 4)):
        a, b = sorted(rng.randrange(len(text) + 1) for _ in range(2))
        text = rng.choice(
            (
                text[:a] + text[b:],
                text[:b] + text[a:b] + text[b:],
                text[:a] + rng.choice(PIECES) * rng.choice((1, 1, 2, 9)) + text[a:],
                text[:a] + text[a:b][::-1] + text[b:],
            )
        )[:1500]
    return text


@unhurried
@given(st.integers(0, 2**32))
def test_damaged_real_answers_never_break_stall_or_waver(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(8):
        scorer, gold, choices, answer = rng.choice(REAL)
        answer, gold = mutate(answer, rng), rng.choice((gold, mutate(gold, rng)))
        start = time.process_time()
        first = judged(answer, gold, scorer=scorer, choices=choices)
        assert time.process_time() - start < 20, (answer, gold)
        assert first == Judge(symbolic=_undecided).score_answer(
            answer, gold, scorer=scorer, choices=choices
        )


@unhurried
@given(st.integers(0, 2**32), st.sampled_from(STYLES))
def test_damaged_responses_never_break_extraction(seed: int, style: str) -> None:
    rng = random.Random(seed)
    cases = json.loads((CASES / "extraction.json").read_text("utf-8"))
    text = mutate(rng.choice(cases)["text"] * rng.choice((1, 1, 3)), rng)
    start = time.process_time()
    answer = extract_answer(text, style)
    assert time.process_time() - start < 20
    assert answer == extract_answer(text, style)
    assert answer is None or answer.strip()


@unhurried
@given(st.one_of(st.text(max_size=120), MATHS), st.lists(st.text(max_size=12), max_size=5))
def test_no_text_breaks_the_smaller_parsers(text: str, choices: list[str]) -> None:
    cleaned = clean(text)
    flat = plain(cleaned)
    for parse_text in (parse_number, parse_compound, read_date, is_label, parse_words, parse_unit):
        parse_text(flat)  # type: ignore[operator]
    read_gold(cleaned, tuple(choices))
    compare_choice(cleaned, "B", tuple(choices), _undecided)
