r"""Mathematical answers with their question: what is asked for, and what an answer says of it.

same spelling -> dates, parts with names -> the unit and name that is asked for -> `expression`
"""

from __future__ import annotations

from mmpr_builder.scoring.asked import as_asked, counts_what_is_asked, names_what_is_asked
from mmpr_builder.scoring.chain import read_chain
from mmpr_builder.scoring.decision import Decision, Symbolic, no, unknown, yes
from mmpr_builder.scoring.expression import compare_plain, deeper, may_be_sentence
from mmpr_builder.scoring.formula import compare_as_ratio
from mmpr_builder.scoring.labelled_zh import compare_labelled, compare_remainders
from mmpr_builder.scoring.labels import compare_labels, is_dated
from mmpr_builder.scoring.latex import has_words, plain
from mmpr_builder.scoring.phrases import REALS, spoken
from mmpr_builder.scoring.quantity import compare_quantities, parse_quantity
from mmpr_builder.scoring.question_zh import without_asked_scale
from mmpr_builder.scoring.ratio import is_ratio
from mmpr_builder.scoring.relation import named_value, names_another, split_relation, without_bars
from mmpr_builder.scoring.said_zh import led_in_chinese, with_its_time
from mmpr_builder.scoring.sentence import value_said
from mmpr_builder.scoring.sentence_zh import has_chinese
from mmpr_builder.scoring.steps import read_steps
from mmpr_builder.scoring.structure import parse, without_cases
from mmpr_builder.scoring.unit_asked import compare_as_asked
from mmpr_builder.scoring.working import without_left_side, without_sum, without_unit_brackets
from mmpr_builder.scoring.yes_no import compare_yes_no, is_yes_no


def compare_math(
    predicted: str, gold: str, symbolic: Symbolic, question: str | None = None
) -> Decision:
    """Two mathematical answers; expects cleaned texts."""
    p, g = (
        without_bars(without_cases(plain(spoken(side)).rstrip(" .;,")))
        for side in (predicted, gold)
    )
    if not g:
        return yes("exact") if predicted == gold else no("text", "differs")
    p, g = without_unit_brackets(p), without_unit_brackets(g)
    if has_chinese(p) and not has_words(g):
        p = without_cases(led_in_chinese(p, question) or p)
    p = without_left_side(p, g, question) or p
    p = p if "\\ldots" in g else without_sum(p) or p
    steps = read_steps(p) if _is_one_value(g) else None
    if steps is not None and steps.proven:
        p = steps.last
    elif steps is not None and compare_plain(steps.last, g, symbolic, 1).equal:
        return unknown("steps", "whether the steps lead to the last one is not known")
    if {p, g} in ({"R", REALS}, {"no solution", "\\emptyset"}):
        return yes("phrase")
    chain = read_chain(p) if "\\approx" not in p and parse_quantity(g) is not None else None
    if chain is not None and chain.right:
        p = chain.result
    if is_dated(g):
        return compare_labels(p, g)
    if is_yes_no(g):
        return compare_yes_no(p, g)
    inner = deeper(symbolic, 0)
    in_parts = compare_remainders(p, g, inner) or compare_labelled(p, g, inner)
    if in_parts is not None:
        return in_parts
    return (
        _compare_answer(p, g, symbolic, question) if question else compare_plain(p, g, symbolic, 0)
    )


def _is_one_value(g: str) -> bool:
    """Whether a truth is one value or one inequality, not a list, and no steps of its own."""
    return parse(g).kind == "expression" and len(split_relation(g)[1]) < 2


def _compare_answer(p: str, g: str, symbolic: Symbolic, question: str) -> Decision:
    """With the question at hand, which says what else is neutral, and which unit is asked for."""
    if names_what_is_asked(p, g, question):
        return yes("sentence")
    if counts_what_is_asked(p, question):
        return unknown("words", "the question asks for a name, not for a count")
    if named_value(g)[0] is None and names_another(p, question):
        return unknown("name", "the question asks for another value")
    if may_be_sentence(p, g):
        said = value_said(p, question)
        loose = value_said(p) if said is None else None
        if loose is not None:
            decision = compare_plain(loose, g, symbolic, 1)
            another = unknown("words", "it may answer another question")
            return another if decision.equal else decision
        p = with_its_time(p, said, g) if said else p
    p = without_asked_scale(p, g, question)
    if is_ratio(g):
        return compare_as_ratio(p, g, question)
    quantity_g, quantity_p = parse_quantity(g), parse_quantity(p)
    if quantity_p and quantity_g:
        scaled = as_asked(quantity_p, quantity_g, question)
        if scaled is not quantity_p:
            return compare_quantities(scaled, quantity_g, symbolic)
        of_asked = compare_as_asked(quantity_p, quantity_g, question, symbolic)
        if of_asked is not None:
            return of_asked
    elif named_value(g)[0] or named_value(p)[0]:
        inner = [parse_quantity(named_value(side)[1]) for side in (p, g)]
        fits = inner[0] and inner[1] and compare_as_asked(inner[0], inner[1], question, symbolic)
        if fits and fits.equal is False:
            return fits  # t = 6 minutes, asked in seconds
    return compare_plain(p, g, symbolic, 0)
