"""Prompts: the style travels with the text, and a question is put in as plain text."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from mmpr_builder.config import Config
from mmpr_builder.errors import InputError
from mmpr_builder.prompts import (
    load_template,
    load_templates,
    render,
    split_images,
    template_names,
)
from mmpr_builder.records import Seed, Template

EN = Seed(id="1", question="<image>\nFind {x}.", answers=("5",))
STYLES = ("final_answer", "boxed", "think_boxed", "open")
ZH = Seed(id="2", question="求x", answers=("5",), language="zh")
OPEN = Seed(id="3", question="Describe it.")


def template_file(tmp_path: Path, text: str, name: str = "mine.txt") -> str:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_every_shipped_template_says_in_its_text_what_its_name_says() -> None:
    names = template_names()
    assert {f"{s}_{lang}" for s in ("final_answer", "boxed", "think_boxed", "open") for lang in
            ("en", "zh")} <= set(names)  # fmt: skip
    for name in names:
        template = load_template(name)
        styles = [s for s in STYLES if name.endswith(f"{s}_{template.language}")]
        assert (template.name, template.style) == (name, max(styles, key=len))
        assert template.text.count("{question}") == 1
        assert ("boxed" in template.style) == ("\\boxed" in template.text)
        assert name not in ("open_en", "open_zh") or template.text == "{question}"


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
        ("{question}\nSay x^{n} or \\frac{a}{b} as \\boxed{X}, {1, 2} as it is.", "boxed", "en"),
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
        ("style: boxed\n---\n{question} \\boxed{}", "between two lines of ---"),
        ("name: x\n---\n{question} \\boxed{}", "between two lines of ---"),
        ("name: x\nstyle: boxed\n\n{question} \\boxed{}", "between two lines of ---"),
        ("---\nstyle: boxed\n{question} \\boxed{}", "between two lines of ---"),
        ("{image}\n{question}\n{choices} \\boxed{}", r"holds \{image\}, which nothing fills in"),
        ("{question}\n{choices}\n \\boxed{}", r"holds \{choices\}"),
        ("{{question}} \\boxed{}", r"holds \{\{question\}\}"),
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


def test_a_template_without_a_place_for_the_question_is_not_rendered() -> None:
    with pytest.raises(InputError, match=r"'t' has no \{question\}"):
        render(Template("t", "Answer it."), Seed(id="1", question="How many?"))


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
    picks = [templates.pick(seed).name for seed in (EN, ZH, OPEN, maths)]
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


def chart_sources(**prompts: object) -> Config:
    seeds = [{"path": "a", "name": "charts", "domain": "chart"}, {"path": "b", "name": "plain"}]
    return Config.model_validate({"seeds": seeds, "prompts": prompts})


def picks(config: Config, count: int = 2000, **fields: object) -> Counter[str]:
    templates = load_templates(config)
    seeds = (Seed(f"s{i}", "Q", source="charts", **fields) for i in range(count))  # type: ignore[arg-type]
    return Counter(templates.pick(seed).name for seed in seeds)


def test_variants_are_mixed_by_weight_over_the_seeds_of_a_domain() -> None:
    config = chart_sources(
        style="boxed",
        template={"chart": {"plain": 1, "visual": 3, "knowledge": 0}},
        open_template={"chart": {"visual": 1}},
    )
    found = picks(config, answers=("1",))
    assert set(found) == {"boxed_en", "visual_boxed_en"}
    assert 0.72 < found["visual_boxed_en"] / 2000 < 0.78
    assert picks(config, 9, answers=("1",), language="zh").keys() <= {
        "boxed_zh",
        "visual_boxed_zh",
    }
    assert picks(config, 9) == {"visual_open_en": 9}
    other = Seed("1", "Q", answers=("1",), source="plain")
    assert load_templates(config).pick(other).name == "boxed_en"


def test_a_seeds_template_depends_on_its_id_alone() -> None:
    weights = {"plain": 1, "visual": 2, "grounded": 1}
    first = load_templates(chart_sources(template={"chart": weights}))
    turned = dict(reversed(weights.items()))
    second = load_templates(chart_sources(template={"chart": turned}))
    for i in range(50):
        seed = Seed(f"s{i}", "Q", answers=("1",), source="charts")
        assert first.pick(seed) == second.pick(seed)
    assert first.fingerprint() == second.fingerprint()


def test_a_source_has_a_mix_of_its_own(tmp_path: Path) -> None:
    own = template_file(tmp_path, "{question}\nUse \\boxed{} please.")
    config = Config.model_validate(
        {
            "seeds": {"charts": {"path": "a", "domain": "chart", "template": {"plain": 1, own: 1}}},
            "prompts": {"template": {"chart": {"visual": 1}}},
        }
    )
    assert set(picks(config, answers=("1",))) == {"final_answer_en", own}


def test_each_variant_is_there_in_each_style_and_language() -> None:
    names = set(template_names())
    for variant in ("knowledge", "visual", "grounded"):
        for style in ("final_answer", "boxed", "open"):
            for language in ("en", "zh"):
                name = f"{variant}_{style}_{language}"
                assert name in names
                template = load_template(name)
                assert (template.style, template.language) == (style, language)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            {
                "prompts": {"template": {"chart": {"nope": 1}}},
                "seeds": {"a": {"path": "a", "domain": "chart"}},
            },
            "nope",
        ),
        (
            {
                "prompts": {"template": {"chart": {"plain": 0}}},
                "seeds": {"a": {"path": "a", "domain": "chart"}},
            },
            "prompts.template.chart.*at least one a weight above 0",
        ),
        (
            {
                "prompts": {"template": {"math": {"open_en": 1}}},
                "seeds": {"a": {"path": "a", "domain": "math"}},
            },
            "'open_en' must be of a style that asks",
        ),
        (
            {
                "prompts": {"open_template": {"math": {"boxed_en": 1}}},
                "seeds": {"a": {"path": "a", "domain": "math"}},
            },
            "'boxed_en' must be of style open",
        ),
        (
            {
                "prompts": {"template": {"math": {"plain": 1}}},
                "seeds": [{"path": "a", "domain": "math"}],
            },
            "seeds.0 .*no name",
        ),
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
