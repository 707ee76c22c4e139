"""Verdicts on answers: one small module per kind of answer, symbolic mathematics in workers.

    score_answer("12 cm", "12")                      correct (number)
    score_answer("B", "18 cm", choices=["12 cm", "18 cm"])   correct (choice)
    score_response("… Final answer: 0.5", r"\\frac12")        correct (number)

    auto, judge     which scorer, and its verdict
    clean, latex    markup comes off
    words/          options, short texts, charts, sentences read from their question
    numbers/        numbers, units, money, dates, ratios, compared exactly
    maths/          shapes and formulas; symbolic in pool and worker, the costly last resort

What counts as equal is written down in docs/scoring.md.

Importing this loads no sympy; only the worker process does.
"""

from mmpr_builder.scoring.judge import SCORER_VERSION, Judge, score_answer, score_response

__all__ = ["SCORER_VERSION", "Judge", "score_answer", "score_response"]
