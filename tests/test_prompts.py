"""Prompts: the style travels with the text, and a question is put in as plain text."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmpr_builder.config import Config, shipped_names
from mmpr_builder.errors import InputError
from mmpr_builder.prompts import (
    load_template,
    load_templates,
    pick_template,
    render,
    split_images,
)
from mmpr_builder.records import Seed, Template

EN = Seed(id="1", question="<image>\nFind {x}.", answers=("5",))
ZH = Seed(id="2", question="求x", answers=("5",), language="zh")
OPEN = Seed(id="3", question="Describe it.")


def template_file(tmp_path: Path, text: str, name: str = "mine.txt") -> str:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_every_shipped_template_says_in_its_text_what_its_name_says() -> None:
    names = shipped_names("prompts", ".txt")
    assert {f"{s}_{lang}" for s in ("final_answer", "boxed", "think_boxed", "open") for lang in
            ("en", "zh")} <= set(names)  # fmt: skip
    for name in names:
        template = load_template(name)
        style, _, language = name.rpartition("_")
        assert (template.name, template.style, template.language) == (name, style, language)
        assert template.text.count("{question}") == 1
        assert "boxed" not in style or "\\boxed" in template.text
        assert style != "open" or template.text == "{question}"


@pytest.mark.parametrize(
    ("text", "style", "language"),
    [
        ("{question}\nPut it in \\boxed{}.", "boxed", "en"),
        ("{question}\n<think></think> then \\boxed{}", "think_boxed", "en"),
        ("{question}\nEnd with Final answer: X", "final_answer", "en"),
        ("{question}\n最后写最终答案：X", "final_answer", "zh"),
        ("{question}\n最后写答案：X", "final_answer", "zh"),
        ("---\nstyle: open\n---\n{question}", "open", "en"),
        ("---\r\nlanguage: zh\r\n---\r\n{question} \\boxed{}\r\n", "boxed", "zh"),
        ("\ufeff---\nstyle: boxed\n---\n{question}", "boxed", "en"),
    ],
)
def test_a_users_file_has_the_style_it_asks_for(
    tmp_path: Path, text: str, style: str, language: str
) -> None:
    template = load_template(template_file(tmp_path, text))
    assert (template.style, template.language) == (style, language)
    assert "---" not in template.text
    assert template.name == str(tmp_path / "mine.txt")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Answer with \\boxed{}.", r"has no \{question\}: write"),
        ("{question} {question} \\boxed{}", "more than once"),
        ("<image>{question} \\boxed{}", "<image>"),
        ("{question}", "does not say how to mark the answer"),
        ("---\nstyle: boxd\n---\n{question}", "unknown style 'boxd'; valid are final_answer"),
        ("---\nstyle: [boxed]\n---\n{question}", "unknown style"),
        ("---\nlanguage: fr\n---\n{question} \\boxed{}", "unknown language 'fr'; valid are en, zh"),
        ("---\nstile: boxed\n---\n{question}", "'stile'"),
        ("---\nstyle: [\n---\n{question}", "not YAML"),
        ("---\njust words\n---\n{question}", "'just words'"),
    ],
)
def test_a_wrong_template_is_refused_with_its_file(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        load_template(template_file(tmp_path, text))
    assert "mine.txt" in str(caught.value)


def test_a_missing_template_names_the_nearest() -> None:
    with pytest.raises(InputError, match=r"'boxed_enn'.*nearest is 'boxed_en'"):
        load_template("boxed_enn")


def test_a_question_is_plain_text_to_render() -> None:
    template = Template("t", "Q: {question} {braces} %s")
    for question in ("{question}", "{0} {x!r} %d", "\\boxed{\\frac{1}{2}}", "$&\\1"):
        text = render(template, Seed(id="1", question=question))
        assert text == f"Q: {question} {{braces}} %s"


def test_images_are_split_out_without_losing_a_character() -> None:
    assert split_images("<image>\nWhat?") == [None, "\nWhat?"]
    assert split_images("A <image><image> B") == ["A ", None, None, " B"]
    assert split_images("none") == ["none"]
    assert split_images("") == []
    assert split_images("<image>") == [None]


def test_truth_language_and_source_pick_the_template(tmp_path: Path) -> None:
    own = template_file(tmp_path, "{question}\nUse \\boxed{} please.")
    seeds = ({"path": "a", "name": "maths", "template": own}, {"path": "b"})
    config = Config.model_validate({"seeds": seeds, "prompts": {"style": "final_answer"}})
    templates = load_templates(config)
    maths = Seed(id="4", question="Q", answers=("1",), source="maths")
    picks = [pick_template(seed, templates).name for seed in (EN, ZH, OPEN, maths)]
    assert picks == ["final_answer_en", "final_answer_zh", "open_en", own]
    assert list(templates.fingerprint()) == sorted(
        [own, "final_answer_en", "final_answer_zh", "open_en", "open_zh"]
    )


def test_a_fixed_language_overrides_the_seeds() -> None:
    templates = load_templates(
        Config.model_validate({"prompts": {"style": "boxed", "language": "zh"}})
    )
    assert [templates.pick(seed).name for seed in (EN, OPEN)] == ["boxed_zh", "open_zh"]
    assert list(templates.fingerprint()) == ["boxed_zh", "open_zh"]


def test_templates_per_language_fall_back_to_the_style(tmp_path: Path) -> None:
    own = template_file(tmp_path, "{question}\n把答案写在 \\boxed{} 中。")
    templates = load_templates(Config.model_validate({"prompts": {"template": {"zh": own}}}))
    assert [templates.pick(seed).name for seed in (EN, ZH)] == ["final_answer_en", own]


def test_an_open_template_may_ask_for_nothing(tmp_path: Path) -> None:
    own = template_file(tmp_path, "Look closely. {question}")
    templates = load_templates(Config.model_validate({"prompts": {"open_template": own}}))
    assert templates.pick(OPEN).style == "open"
    assert render(templates.pick(OPEN), OPEN) == "Look closely. Describe it."


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"prompts": {"template": "nope"}}, "nope"),
        ({"prompts": {"template": {"fr": "boxed_en"}}}, "unknown language 'fr'"),
        ({"prompts": {"template": "open_en"}}, "prompts.template: .*style open"),
        ({"seeds": {"path": "a", "template": "boxed_en"}}, "seeds.0 .*no name"),
        (
            {
                "seeds": [
                    {"path": "a", "name": "x", "template": "boxed_en"},
                    {"path": "b", "name": "x", "template": "boxed_zh"},
                ]
            },
            "another source named 'x'",
        ),
    ],
)
def test_wrong_settings_fail_before_anything_starts(settings: dict, said: str) -> None:  # type: ignore[type-arg]
    with pytest.raises(InputError, match=said):
        load_templates(Config.model_validate(settings))


def test_a_changed_text_changes_the_fingerprint(tmp_path: Path) -> None:
    prints = []
    for text in ("{question} \\boxed{}", "{question} \\boxed{}", "{question}: \\boxed{}"):
        own = template_file(tmp_path, text)
        config = Config.model_validate({"prompts": {"template": own}})
        prints.append(load_templates(config).fingerprint()[own])
    assert prints[0] == prints[1] != prints[2]
