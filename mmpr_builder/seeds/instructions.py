r"""Removes the answer-format instructions that data sets append to their questions.

    What is the capital of Colorado?
    Answer the question using a single word or phrase.      <- fights a chain-of-thought prompt

A form is removed only where it is a sentence of its own: on its own line, or as the last sentence
of the question. Sentences about the *answer* stay: "Answer yes or no.", "Round to two decimal
places.", "respond with 'Unanswerable'". The forms are those of VQAv2, LLaVA, InternVL, VLMEvalKit,
MathVista, MathVision, MMMU and ScienceQA and of their Chinese versions.
"""

from __future__ import annotations

import re

from mmpr_builder.records import IMAGE_PLACEHOLDER

# "In a word or phrase" is a format; "in words" and "with a number" describe the answer.
_UNIT = r"(?:words?|phrases?|numbers?|integers?|terms?|letters?|sentences?)"
_SHORT = (
    rf"(?:(?:an? |one )?(?:single|short|brief) {_UNIT}|one word|(?:a |)word or phrase)"
    rf"(?:(?:,| or|, or|/)(?: an?)?(?: single| short| brief)? ?{_UNIT})*"
)
_THE_QUESTION = r"(?:(?:the|this)(?: above| following)? question|it)"
_LETTER = r"(?: (?:correct|right|best))?(?: (?:option|choice|answer)(?:'?s)?)? letters?"
_CHOICES = (
    r"(?: of (?:the )?(?:correct|right|best|chosen) (?:option|choice|answer))?"
    r"(?: (?:from|among|of) (?:the |your )?(?:given |provided |following |above |available )?"
    r"(?:choices|options|answers)(?: above| below| given| provided)?)?"
)

_BOXED_ZH = (
    r"(?:将|把)(?:你的|您的)?(?:最终|最后)?的?答案(?:放在|写在|放入|放到|填在)"
    r" ?\$?\\boxed\{\}\$? ?(?:中|内|里|里面)?"
)

#: Each is matched whole, case and blanks at the ends ignored; the final full stop is optional.
_FORMS_EN = (
    # VQAv2, GQA, TextVQA, ChartQA … as LLaVA and InternVL ask them.
    rf"(?:please )?(?:try to )?(?:answer|respond to|reply to)(?: {_THE_QUESTION})?"
    rf"(?: directly| briefly| concisely)?,? (?:using|with|in|by)(?: only| just)? {_SHORT}"
    r"(?: only| if possible| when possible)?",
    rf"(?:please )?(?:answer|respond|reply)(?: {_THE_QUESTION})?"
    r" (?:directly|briefly|concisely|shortly)",
    r"(?:please )?(?:give|provide)(?: me)?(?: only)? ?(?:an?|the)? ?(?:short|brief|concise|direct)"
    r"(?:(?:,| and|, and) (?:short|brief|concise|direct))* (?:answer|response)(?: directly)?",
    r"(?:please )?(?:directly )?(?:give|provide|output)(?: only)? the(?: final)? answer"
    r"(?: directly| only| without (?:any )?(?:explanation|reasoning))",
    # Multiple choice: ScienceQA, AI2D, MMMU, MMBench.
    rf"(?:please )?(?:answer|respond|reply)(?: {_THE_QUESTION})?(?: directly)?,? (?:with|by|using)"
    rf"(?: only| just)?(?: giving| stating)?(?: the| an?)?(?: single)?{_LETTER}{_CHOICES}"
    r"(?: directly| only)?(?: and nothing else)?",
    r"(?:please )?(?:answer|respond)(?: the question)?(?: directly)? with only the letter"
    r"(?: \([A-Z](?:,? (?:or )?[A-Z])*\))? of the correct option(?: and nothing else)?",
    r"(?:please )?only (?:answer|respond|reply) with the (?:option )?letter"
    r"(?: of the correct (?:option|answer|choice))?",
    r"(?:please )?(?:select|choose|pick) (?:the|one) (?:correct|right|best|single best) "
    r"(?:answer|option|choice) (?:from|among|of) (?:the )?(?:given |provided |following |above )?"
    r"(?:choices|options|answers)(?: above| below| given| provided)?",
    r"select the best answer to the above multiple[- ]choice question(?: based on the \w+)?"
    r"(?:\. respond with only the letter(?: \([A-Z](?:,? (?:or )?[A-Z])*\))?"
    r" of the correct option)?",
    r"(?:please )?answer the question by selecting only one option from the given options",
    rf"(?:please )?(?:directly )?(?:give|provide|output|write|state)(?: only)? the"
    rf"{_LETTER}{_CHOICES}(?: directly| only)?",
    # MathVista's hints. `_DECIMALS` handles the one on decimals, which describes the answer.
    r"hint: please answer the question(?: requiring an? (?:integer|python list) answer)? and"
    r" provide the (?:correct option letter|final value|final list), e\.g\., .{1,80}?,? at the end",
    # Chain of thought with a format of its own: MathVision, Qwen, InternVL, R1-like sets.
    r'please solve the problem step by step and put your answer in one "?\\boxed\{\}"?\. if it is a'
    r' multiple[- ]choice question, only one letter is allowed in the "?\\boxed\{\}"?',
    r"(?:please |let's )?(?:reason|think|work it out|solve (?:it|the problem))(?: about it)?"
    r" step[ -]by[ -]step(?:,? and (?:then )?(?:put|write|give|place|enclose) (?:your|the)"
    r" (?:final )?answer (?:with)?in(?:side)? \$?\\boxed\{\}\$?)?",
    r"(?:please )?(?:put|write|give|place|enclose) (?:your|the) final answer (?:with)?in(?:side)?"
    r" \$?\\boxed\{\}\$?",
    r"output the thinking process in <think>\s*</think> and (?:the )?final answer"
    r"(?: \(\w+\))? in <answer>\s*</answer>(?: tags)?",
)

_FORMS_ZH = (
    r"请?(?:直接)?(?:使用|用|以)(?:(?:单个|一个|简短的?)?(?:单词|词语?)|(?:单个|一个|简短的?)(?:短语|字))"
    r"(?:(?:或者?|、)(?:一个|简短的?)?(?:短语|词组|短句|数字))?(?:来|直接)?(?:回答|作答)"
    r"(?:上述|以上|这个|该)?(?:问题)?",
    r"请?(?:直接|只|仅|只需|仅需)?(?:需)?(?:回答|给出|输出|写出|选择|填写)(?:出)?(?:正确|所选)?的?"
    r"(?:选项|答案)(?:所?对应)?的?(?:英文)?字母(?:即可)?",
    r"(?:请)?(?:从|根据|在)(?:给定|所给|以上|以下|上述|下列|提供)?的?(?:选项|选择)(?:中)?[,，]?"
    r"(?:直接)?(?:选择|选出|回答|给出)(?:一个)?(?:最?(?:正确|合适|恰当|佳))?的?(?:答案|选项)?的?(?:字母)?",
    r"请?(?:直接)?(?:使用|用|以)(?:给定)?(?:正确)?选项(?:中)?的?字母(?:直接)?(?:来)?(?:回答|作答)(?:问题)?",
    r"请?(?:选择|选出)(?:一个)?最?(?:正确|合适|恰当|佳)的?(?:答案|选项)的?(?:选项)?(?:字母)?",
    r"请?(?:直接|简短地?|简要地?|简洁地?)(?:回答|作答)(?:问题|这个问题|上述问题)?",
    r"请?(?:直接|只|仅)(?:需)?(?:给出|写出|输出|提供)(?:最终|正确)?的?(?:答案|结果)(?:即可)?",
    r"提示[:：]请?.{0,40}?(?:正确)?选项的?字母[,，]?(?:例如|如)[A-Z,，、 ]+[。.]?",
    rf"请?(?:一步一步地?|逐步地?)(?:推理|思考|解答|解决问题)(?:[,，]?(?:并|并且|然后)?{_BOXED_ZH})?",
    rf"请?{_BOXED_ZH}",
)

#: Cues for a completion model to go on; only at the very end, on their own line.
_CUES = r"(?:the (?:best |correct )?answer is|(?:short |final )?answer|答案(?:是)?|回答)\s*[:：]"

_FORM = re.compile("(?:" + "|".join((*_FORMS_EN, *_FORMS_ZH)) + r")\s*[.。!！]?", re.IGNORECASE)
_CUE = re.compile(_CUES, re.IGNORECASE)
# Where a form may begin inside a line. Not in lower case: "… please answer briefly why".
_START = re.compile(
    r"(?<!\S)(?=(?:Please|Answer|Respond|Reply|Give|Provide|Directly|Only|Select|Choose|Pick|Output"
    r"|Write|State|Hint|Reason|Think|Let's|Solve|Work|Put|Place|Enclose)\b)"
    r"|(?<=[。？！?!.；;）)：:\s])(?=[请直使用以从提逐一将把只仅根在])"
)
# Nearly every form has one of these words; the cheap test spares most questions the rest.
_ANY_FORM = (
    *("answer", "respond", "reply", "response", "letter", "option", "step", "boxed", "think"),
    *("答", "选", "推理", "思考", "字母", "结果", "解"),
)
_ANY_LINE = (*_ANY_FORM, "choice")

# "Hint: …\nQuestion: …" (MathVista; the Chinese form likewise).
_HINT = re.compile(r"\A(?P<images>(?:\s*<image>)*\s*)(?P<hint>(?:Hint|提示)[:：][^\n]*)\n+", re.I)
_QUESTION_LABEL = re.compile(r"\A(?:Question|问题)[:：]\s*", re.I)
_DECIMALS = re.compile(
    r"hint: please answer the question requiring a floating-point number with (\w+) decimal places?"
    r" and provide the final value, e\.g\., .{1,80}?,? at the end\.?",
    re.IGNORECASE,
)
# The prompt with which the method's released scripts ask for a final answer (InternVL).
_TASK_PREFIX = re.compile(
    r"(?P<images>(?:\s*<image>)*\s*)Your task is to answer the question below\.[^\n]*?"
    r"please use the format \"?Final answer: ?\.\.\"?\.?\s*(?:Question:\s*)?",
    re.IGNORECASE,
)


def strip_instructions(question: str) -> str:
    """The question without known answer-format instructions, before or after it.

    `<image>` placeholders keep their order and number. A question that is nothing but an
    instruction is returned as it is.
    """
    if not _has_any(question, _ANY_FORM):
        return question
    text = _strip_prefix(question)
    text = _strip_lines(text)
    while (shorter := _strip_tail(text)) != text:
        text = shorter
    return text if text.replace(IMAGE_PLACEHOLDER, "").strip() else question


def _strip_prefix(text: str) -> str:
    if task := _TASK_PREFIX.match(text):
        text = task["images"] + text[task.end() :]
    hint = _HINT.match(text)
    if hint is None:
        return text
    rest = _QUESTION_LABEL.sub("", text[hint.end() :])
    if _FORM.fullmatch(hint["hint"].strip()):
        return hint["images"] + rest
    if decimals := _DECIMALS.fullmatch(hint["hint"].strip()):
        # How the answer was rounded is part of the question; only the format goes.
        return f"{hint['images']}{rest.rstrip()}\nRound to {decimals[1].lower()} decimal places."
    return text


def _strip_lines(text: str) -> str:
    """The text without the lines that are nothing but a known form."""
    lines = text.split("\n")
    kept = [line for line in lines if len(lines) == 1 or not _is_form(line)]
    return text if len(kept) == len(lines) else "\n".join(kept).rstrip()


def _is_form(line: str) -> bool:
    line = line.strip()
    # Forms are not longer or shorter; this bounds the work on hostile text.
    may_be = 4 <= len(line) <= 400 and _has_any(line, _ANY_LINE)
    return may_be and _FORM.fullmatch(line) is not None


def _has_any(text: str, words: tuple[str, ...]) -> bool:
    lowered = text.lower()
    for word in words:  # noqa: SIM110 - any() takes three times as long, and every line comes here
        if word in lowered:
            return True
    return False


def _strip_tail(text: str) -> str:
    """The text without its last sentence, if that is a known form; trailing placeholders stay."""
    end = len(text.rstrip())
    while text.endswith(IMAGE_PLACEHOLDER, 0, end):
        end = len(text[: end - len(IMAGE_PLACEHOLDER)].rstrip())
    images = text[end:].rstrip()
    line_start = text.rfind("\n", 0, end) + 1
    last_line = text[line_start:end]
    if line_start and _CUE.fullmatch(last_line.strip()):
        return text[:line_start].rstrip() + images
    first = max(line_start, end - 400)
    for start in _START.finditer(text, first, end):
        if _FORM.fullmatch(text, start.start(), end):
            return text[: start.start()].rstrip() + images
    return text
