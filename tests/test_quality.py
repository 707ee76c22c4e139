"""Quality controls of responses: planted faults are found, clean texts pass untouched."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from mmpr_builder.config import Config, QualityConfig
from mmpr_builder.demo.questions import ask
from mmpr_builder.demo.world import make_scene
from mmpr_builder.extraction import extract_answer
from mmpr_builder.output.counts import Counts
from mmpr_builder.pairing import build_pairs
from mmpr_builder.quality.filters import Findings, distinct_responses
from mmpr_builder.quality.hygiene import (
    continuation_fault,
    contradiction,
    find_loop,
    misses_image,
    response_fault,
)
from mmpr_builder.records import Continuation, Language, Pair, Response, Seed, Verdict
from tools.demo_model.descriptions import describe_from_habit
from tools.demo_model.responses import respond

SEED = Seed(id="s", question="How many?", answers=("3",))
OPEN = Seed(id="o", question="Describe the picture.")
CALM = "The first row has two red circles, the second one. Two and one are three.\nFinal answer: 3"

FAULTS: tuple[tuple[str, str, Language], ...] = (
    ("leaked_token", "There are three.\nFinal answer: 3<|im_end|>\n<|im_start|>user", "en"),
    ("leaked_token", "In <image> there are three.\nFinal answer: 3", "en"),
    ("leaked_token", "<|vision_start|> three", "en"),
    ("refusal", "I'm sorry, but I can't help with that.", "en"),
    ("refusal", "I’m sorry, but I cannot identify people in images.", "en"),
    ("refusal", "As an AI language model, I have no eyes.", "en"),
    ("refusal", "Unfortunately, I am unable to view the picture.", "en"),
    ("refusal", "抱歉，我无法回答这个问题。", "zh"),
    ("refusal", "作为一个人工智能，我没有视觉。", "zh"),
    ("loop", "The area is twelve. " + "So the area is twelve, because it is twelve. " * 9, "en"),
    ("loop", "三角形的面积是十二，" * 8, "zh"),
    ("wrong_language", "图中有三个红色的圆形，位于第一行和第二行，所以答案是三个。" * 2, "en"),
    ("wrong_language", " ".join(f"word{c} about shapes" for c in "abcdefghijkl"), "zh"),
)  # fmt: skip
CLEAN: tuple[tuple[str, Language], ...] = (
    (CALM, "en"),
    ("Row 1: red circle, red circle, red circle.\nRow 2: red circle, red circle, none.", "en"),
    ("| a | b |\n| --- | --- |\n" + "| 0 | 0 |\n" * 12, "en"),
    ("0.3333333333333333 is 1/3; 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0", "en"),
    ("The sign reads 北京 and 上海. " + "It stands beside a wide road with many cars. ", "en"),
    ("I'm sorry for the cat: it sits in the rain, and nobody lets it in.", "en"),
    ("The value cannot be determined from the graph.\nFinal answer: E", "en"),
    ("设 $x = \\frac{1}{2}$，则 $\\triangle ABC$ 的面积为 $6$。\n最终答案：6", "zh"),
    ("Let $\\alpha$ and β be the angles, so that α + β = 90°.", "en"),
)
CONTRADICTIONS = (
    ("The sides are 3 and 4.\nSo the area is 3 * 4 = 12.\nFinal answer: 13", "13"),
    ("Three and four.\nTherefore x = 7.\n\n**Final answer:** 9", "9"),
    ("因此一共有 3 + 4 = 7。\n最终答案：8", "8"),
    ("Thus $3 + 4 = 7$.\nFinal answer: 5", "5"),
)
NO_CONTRADICTIONS = (
    ("So the area is 3 * 4 = 12.\nFinal answer: 12", "12"),
    ("So the area is 3 * 4 = 12.\nFinal answer: 12 cm", "12 cm"),
    ("So the share is 3 / 4 = 0.75.\nFinal answer: 75", "75"),
    ("So x = 3.14159.\nFinal answer: 3.14", "3.14"),
    ("Half of 24 is 12.\nSo 2 * 12 = 24.\nFinal answer: 12", "12"),
    ("The perimeter is 2 + 2 = 4.\nFinal answer: 13", "13"),
    ("So y = 4.\nOption B.\nFinal answer: 2", "2"),
    ("So y = 4.", None),
    ("So y = 4.\nFinal answer: B", "B"),
    ("So it takes 2 hours: 60 + 60 = 120.\nFinal answer: 2", "2"),
)
MISSING = (
    "I cannot see the image, so I will assume it is a cat.",
    "Since there is no image provided, I can only guess.",
    "Unfortunately I don't have access to the picture.",
    "The image is not provided, but probably it is 4.",
    "Please upload the image so that I can help.",
    "there is no image.",
    "No image was attached to the question.",
    "I can’t view this chart.",
    "由于没有图片，我只能猜测。",
    "题目没有提供图片，因此无法判断。",
    "我无法看到这张图片。",
    "请提供一张清晰的图片。",
    "图片未提供，",
    "看不到图像",
)
PRESENT = (
    "The image shows a cat. There is no picture on the wall.",
    "I cannot see the image of the moon in the water, as the boat hides it.",
    "Without the chart title, the axis tells what is counted.",
    "There is no chart title, but the picture is bright.",
    "The figure is not drawn to scale.",
    "图中没有图例，图片左边是一只猫。",
    "图片中没有提供具体的数值，但可以看到三根柱子。",
    "无法确定图中物体的颜色。",
    CALM,
)


def clean_responses(count: int = 120) -> list[tuple[str, Language]]:
    """What the demo's writers say, right and wrong, in both languages."""
    found = []
    for number in range(count):
        scene = make_scene(11, number, "eval")
        question = ask(scene, 11, number, open_share=0.2)
        rng = random.Random(number)
        if question.answer is None:
            text = describe_from_habit(scene, question.language, rng)
        else:
            text = respond(question, scene, "final_answer", rng)
        found.append((text, question.language))
    return found


@pytest.mark.parametrize(("reason", "text", "language"), FAULTS)
def test_a_planted_fault_is_found(reason: str, text: str, language: Language) -> None:
    fault = response_fault(text, language=language)
    assert fault is not None
    assert fault.reason == reason


@pytest.mark.parametrize(("text", "language"), CLEAN)
def test_a_clean_response_has_no_fault(text: str, language: Language) -> None:
    answer = extract_answer(text, "final_answer")
    assert response_fault(text, language=language, answer=answer) is None


def test_all_that_the_demos_writers_say_is_clean() -> None:
    for text, language in clean_responses():
        answer = extract_answer(text, "final_answer")
        assert response_fault(text, language=language, answer=answer) is None
        assert misses_image(text) is None


@pytest.mark.parametrize(("text", "answer"), CONTRADICTIONS)
def test_a_last_step_that_says_otherwise_is_a_contradiction(text: str, answer: str) -> None:
    assert contradiction(text, answer) is not None


@pytest.mark.parametrize(("text", "answer"), NO_CONTRADICTIONS)
def test_what_is_not_clear_is_no_contradiction(text: str, answer: str | None) -> None:
    assert contradiction(text, answer) is None


LETTERS = [
    # response, letter, whether it contradicts the last step; options 2, 4, 6, 8
    ("大概是4。\n最终答案：C", "C", True),
    ("大概是6。\n最终答案：C", "C", False),
    ("It looks like 2 + 2, which is 4.\nFinal answer: C", "C", True),
    ("It looks like 2 + 4, which is 6.\nFinal answer: C", "C", False),
    ("It is not 4.\nFinal answer: C", "C", False),
    ("Option B says 4, option C says 6, and the sum is 4.\nFinal answer: C", "C", False),
    ("I cannot tell.\nFinal answer: C", "C", False),
    ("The sum is 5.\nFinal answer: C", "C", False),
]


@pytest.mark.parametrize(("text", "letter", "clashes"), LETTERS)
def test_a_letter_of_another_option_than_the_last_step_says_is_a_contradiction(
    text: str, letter: str, clashes: bool
) -> None:
    assert (contradiction(text, letter, ("2", "4", "6", "8")) is not None) == clashes


def test_a_token_that_the_question_shows_is_no_leak() -> None:
    question = "What does <|im_end|> mean?"
    assert response_fault("<|im_end|> ends a turn.", question=question) is None


@pytest.mark.parametrize("text", MISSING)
def test_talk_of_a_missing_image_is_noticed(text: str) -> None:
    assert misses_image(text) is not None


@pytest.mark.parametrize("text", PRESENT)
def test_talk_about_an_image_is_not(text: str) -> None:
    assert misses_image(text) is None


def test_long_texts_take_no_long_time() -> None:
    for text in ("a b " * 100_000, "no image " * 50_000, "= 1" * 100_000, "<|" * 100_000):
        response_fault(text, answer="3")
        misses_image(text)
        find_loop(text)


def continued(text: str, keep: float = 0.5, tokens: int | None = None) -> Response:
    prefix = "A red circle lies left of "
    rest = "a blue square and above a green star in the middle of the picture."
    count = len(text.split()) if tokens is None else tokens
    continuation = Continuation(prefix, text, count, "stop", seed=1, keep=keep)
    return Response(prefix + rest, 20, "stop", 0, continuation=continuation)


GATED = (
    (None, "two yellow bars that grow from left to right, and nothing else."),
    ("near_equal", "a blue square and above a green star in the middle of the image."),
    ("missing_image", "something, but I cannot see the image."),
    ("loop", "a square, and the square is left of " * 8),
)


@pytest.mark.parametrize(("reason", "text"), GATED)
def test_a_continuation_passes_or_is_stopped_for_its_reason(reason: str | None, text: str) -> None:
    response = continued(text)
    fault = continuation_fault(response, *response.continuations)
    assert (fault.reason if fault else None) == reason


def test_a_continuation_many_times_as_long_is_a_runaway() -> None:
    text = "two yellow bars."
    faults = []
    for tokens in (250, 300):
        response = continued(text, tokens=tokens)
        faults.append(continuation_fault(response, *response.continuations))
    assert [fault and fault.reason for fault in faults] == [None, "runaway"]


def test_the_yield_is_told_by_ratio() -> None:
    counts = Counts()
    counts.findings.continuations.update(
        {(0.5, "missing_image"): 1, (0.25, ""): 4, (0.5, ""): 2, (0.5, "loop"): 1}
    )
    found = counts.as_dict()["continuations"]
    assert [(keep, one["made"], one["fit"], one["unfit"]) for keep, one in found.items()] == [
        ("0.25", 4, 4, {}),
        ("0.5", 4, 2, {"loop": 1, "missing_image": 1}),
    ]


def test_near_copies_have_one_text_that_stands_for_them_in_any_order() -> None:
    long = "There are two red circles in the first row and three blue squares in the second row"
    texts = [f"{long}, five in all.", f"{long}: five in all!", f"{long}, so it is five.", "Five."]
    assert distinct_responses(texts, 0.95) == [0, 0, 2, 3]
    for number in range(20):
        order = random.Random(number).sample(range(4), 4)
        leaders = distinct_responses([texts[i] for i in order], 0.95)
        groups = {frozenset(order[i] for i in range(4) if leaders[i] == of) for of in set(leaders)}
        assert groups == {frozenset({0, 1}), frozenset({2}), frozenset({3})}


def pair_up(
    samples: list[tuple[str, str]], quality: QualityConfig, seed: Seed = SEED
) -> tuple[list[Pair], list[str], Counter[str]]:
    findings = Findings()
    responses = [Response(text, 9, "stop", i) for i, (_, text) in enumerate(samples)]
    verdicts = [Verdict(outcome, answer="3") for outcome, _ in samples]  # type: ignore[arg-type]
    config = Config(quality=quality)
    pairs, drops = build_pairs(seed, responses, verdicts, config, findings=findings)
    told = [f"{drop.stage}.{drop.reason}: {drop.detail}" for drop in drops]
    return pairs, told, findings.filtered


MIXED = [
    ("correct", "A calm way to three."),
    ("correct", "I'm sorry, but I can't say; three."),
    ("correct", "Three it is, so three is right and three remains. " * 9),
    ("incorrect", "It is four."),
    ("incorrect", "It is four.<|im_end|>"),
    ("incorrect", "Four it is, so four is right and four remains. " * 9),
]


def test_faulty_responses_are_not_chosen_and_some_not_rejected_either() -> None:
    pairs, _, faults = pair_up(MIXED, QualityConfig(hygiene=True))
    assert {pair.chosen_text for pair in pairs} == {MIXED[0][1]}
    assert {pair.rejected_text for pair in pairs} == {MIXED[3][1], MIXED[5][1]}
    assert faults == {"refusal": 1, "loop": 2, "leaked_token": 1}


def test_with_all_controls_off_nothing_changes() -> None:
    pairs, _, faults = pair_up(MIXED, QualityConfig())
    assert len(pairs) == 9
    assert not faults


def test_clean_pairs_pass_all_controls_untouched() -> None:
    samples = [("correct" if i % 2 else "incorrect", text) for i, (text, _) in
               enumerate(clean_responses(40))]  # fmt: skip
    on = QualityConfig(hygiene=True, dropout_gate=True, distinct=1.0)
    seed = Seed(id="s", question="有多少个 shapes?", answers=("3",))
    found = pair_up(samples, on, seed)
    assert found == pair_up(samples, QualityConfig(), seed)
    assert found[0]


def test_a_seed_that_only_the_controls_leave_without_pairs_says_so() -> None:
    _, drops, _ = pair_up(MIXED[1:4:2], QualityConfig(hygiene=True))
    assert drops == ["quality.no_clean_pair: 1 refusal"]
    _, drops, _ = pair_up(MIXED[1:2], QualityConfig(hygiene=True))
    assert drops == ["pairing.all_correct: 1 responses: 1 correct"]


def test_near_copies_count_once_in_pairing() -> None:
    way = "First I count the red circles in the upper row, then those in the lower row, and get"
    samples = [("correct", f"{way} three{end}") for end in (".", "!", " .", " ;")]
    pairs, _, faults = pair_up([*samples, ("incorrect", "Four.")], QualityConfig(distinct=0.95))
    assert len(pairs) == 1
    assert faults == {"near_copy": 3}
    again, _, _ = pair_up([("incorrect", "Four."), *samples[::-1]], QualityConfig(distinct=0.95))
    assert [pair.id for pair in again] == [pair.id for pair in pairs]


def test_gated_continuations_make_no_pairs() -> None:
    responses = [continued(text) for _, text in GATED]
    findings = Findings()
    config = Config(quality=QualityConfig(dropout_gate=True))
    pairs, drops = build_pairs(OPEN, responses, [], config, findings=findings)
    assert [pair.rejected_index for pair in pairs] == [0]
    assert not drops
    assert findings.filtered == {f"continuation_{reason}": 1 for reason, _ in GATED if reason}
