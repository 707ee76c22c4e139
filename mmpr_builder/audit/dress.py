r"""A truth as responses would say it: whole synthetic responses, by style and kind of answer.

("12", "math", "boxed", "en")  ->  "The picture shows it.\nSo the answer is $\boxed{12}$.", …
"""

from __future__ import annotations

from mmpr_builder.records import Language, Style

_REASONING: dict[Language, str] = {
    "en": "The picture shows what is asked for, and it can be read off step by step.",
    "zh": "从图中可以一步一步读出所求的内容。",
}


def responses_saying(truth: str, kind: str, style: Style, language: Language) -> list[str]:
    """Responses of this style whose final answer is the truth, plain and in its usual dresses.

    Style "open" marks no answer: no responses.
    """
    if style == "open":
        return []
    lead = _REASONING[language]
    if style == "boxed":
        close = (
            "所以答案是 $\\boxed{%}$。" if language == "zh" else "So the answer is $\\boxed{%}$."
        )
        wraps = [f"{lead}\n{close}", f"{lead}\n\\[\\boxed{{%}}\\]"]
    elif style == "think_boxed":
        wraps = [f"<think>\n{lead}\n</think>\n\\boxed{{%}}"]
    elif language == "zh":
        wraps = [f"{lead}\n最终答案：%", f"{lead}\n**最终答案：** %"]
    else:
        wraps = [f"{lead}\nFinal answer: %", f"{lead}\n**Final answer:** %"]
    said = [truth, *_dressed(truth, kind, in_box=style != "final_answer")]
    return [wrap.replace("%", answer, 1) for wrap in wraps for answer in said]


def _dressed(truth: str, kind: str, *, in_box: bool) -> list[str]:
    if kind == "choice" and len(truth) == 1:
        return [f"({truth})", f"\\text{{{truth}}}" if in_box else f"**{truth}**"]
    if in_box and kind in ("vqa", "anls") and not set(truth) & set("\\${}"):
        return [f"\\text{{{truth}}}"]
    if not in_box and kind == "math" and "$" not in truth and "\n" not in truth:
        return [f"${truth}$"]
    return []
