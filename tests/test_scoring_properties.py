"""Properties of scoring: reflexive, symmetric, blind to dress, no changed answer accepted."""

from __future__ import annotations

import string
import time
from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st

from mmpr_builder.scoring import Judge
from mmpr_builder.scoring.anls import similarity
from mmpr_builder.scoring.clean import clean
from mmpr_builder.scoring.decision import Decision, Query
from mmpr_builder.scoring.latex import compact, plain
from mmpr_builder.scoring.number import parse_number
from mmpr_builder.scoring.numerals import parse_words
from mmpr_builder.scoring.quantity import parse_quantity
from mmpr_builder.scoring.structure import parse
from mmpr_builder.scoring.units import parse_unit

SCORERS = ("auto", "math", "choice", "relaxed", "vqa", "anls", "exact")


def _undecided(query: Query) -> Decision:
    """No symbolic mathematics: what is asked of it counts as not known."""
    return Decision(None, "symbolic")


unhurried = settings(deadline=None)
"""A machine under load stalls; what is measured is measured in CPU time below."""
JUDGE = Judge(symbolic=_undecided)
numbers = st.integers(-(10**9), 10**9)
decimals = st.decimals(-(10**6), 10**6, places=3, allow_nan=False).map(lambda d: f"{d:f}")
words = st.text(alphabet=string.ascii_lowercase + " ", min_size=1, max_size=20)
letters = st.sampled_from("ABCD")


def outcome(answer: str, gold: str, **options: object) -> str:
    return JUDGE.score_answer(answer, gold, **options).outcome  # type: ignore[arg-type]


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
            assert outcome(joined, left, choices=("1", "2", "3", "4")) == "incorrect"


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
    inside, outside = Fraction(value) * 105 / 100, Fraction(value) * 10501 / 10000
    assert outcome(f"{float(inside):.10f}", truth, scorer="relaxed") == "correct"
    assert outcome(f"{float(outside):.10f}", truth, scorer="relaxed") == "incorrect"


@unhurried
@given(words, words)
def test_anls_is_a_similarity(left: str, right: str) -> None:
    assert similarity(left, left) == 1.0
    assert 0.0 <= similarity(left, right) == similarity(right, left) <= 1.0


MATHS = st.text(
    alphabet="0123456789xyab+-*/^_{}()[]\\|!.,;:=<>$% \nfracsqrtpi°√²½∞或和", max_size=120
)


@settings(max_examples=300, deadline=None)
@given(MATHS, MATHS, st.sampled_from(SCORERS))
def test_no_text_breaks_or_stalls_scoring(answer: str, gold: str, scorer: str) -> None:
    start = time.process_time()
    verdict = JUDGE.score_answer(answer, gold, scorer=scorer, choices=None)
    assert verdict.outcome in ("correct", "incorrect", "no_answer", "undecided")
    assert time.process_time() - start < 1.0


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
            JUDGE.score_answer(answer, "12, 13", scorer=scorer)
        assert time.process_time() - start < 3.0, piece
