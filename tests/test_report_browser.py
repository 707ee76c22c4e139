"""The report in a real browser: filters, keys, marks, formulas; nothing runs, nothing is fetched.

Needs a Chromium; skips without one.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pair_samples import make_rollout, picture, sample_rollouts, write_build

from mmpr_builder.config import Config, PairingConfig, ScoringConfig
from mmpr_builder.output import read_run
from mmpr_builder.pairing import read_labels
from mmpr_builder.records import Rollout, Seed
from mmpr_builder.report import write_report

api = pytest.importorskip("playwright.sync_api")
pytestmark = pytest.mark.slow

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
EVIL = "</script><script>window.hacked = 1</script><img src=x onerror='window.hacked = 2'>"
LATEX = r"so $\frac{1}{2}$, $x < 3$ and \boxed{\sqrt{2}}; not $\frac{1}$; $\text{<img src=x>}$"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with api.sync_playwright() as playwright:
        own = playwright.chromium.executable_path
        found = next((path for name in NAMES if (path := shutil.which(name))), None)
        path = own if Path(own).exists() else found
        if path is None:
            pytest.skip("no Chromium here: install one, or run `playwright install chromium`")
        browser = playwright.chromium.launch(executable_path=path)
        yield browser
        browser.close()


def rollouts(folder: Path) -> list[Rollout]:
    """The usual samples, hostile texts, formulas, and forty plain questions."""
    made = sample_rollouts(folder)
    image = picture(folder / "evil.png", "teal")
    evil = Seed(f'e"{EVIL}', f"<image>\n{EVIL} 图中？", (image,), ("1",), source=f'"{EVIL}')
    made.append(make_rollout(evil, [f"{EVIL} 1", f"{EVIL} {'x' * 200_000} 2"]))
    formulas = Seed("latex", f"Solve {LATEX}", (), (r"$\frac12$", "3"), source="maths")
    made.append(make_rollout(formulas, [f"{LATEX} 3", f"{LATEX} 4"]))
    for i in range(40):
        seed = Seed(f"plain-{i}", f"Question number {i}?", (), ("3",), source="plain")
        made.append(make_rollout(seed, [f"{i} so 3", f"{i} so 4", *["x 5"] * (i % 4)]))
    return [replace(rollout, index=i) for i, rollout in enumerate(made)]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    write_build(folder / "out", rollouts(folder))
    write_report(folder / "out")
    return folder / "out"


class Opened:
    """A page, and whatever it should not have done."""

    def __init__(self, browser: Any, width: int = 1280) -> None:
        self.context = browser.new_context(
            viewport={"width": width, "height": 800}, accept_downloads=True
        )
        self.page = self.context.new_page()
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("dialog", lambda dialog: dialog.accept())

    def open(self, out: Path, fragment: str = "") -> Any:
        self.page.goto(f"file://{out}/report/index.html{fragment}")
        return self.page

    def ids(self) -> list[str]:
        found: list[str] = self.page.eval_on_selector_all(".pair", "all => all.map(e => e.id)")
        return found

    def current(self) -> str:
        return str(self.page.locator(".pair.current").get_attribute("id"))


@pytest.fixture
def opened(browser: Any) -> Iterator[Opened]:
    opened = Opened(browser)
    yield opened
    assert opened.said == []
    assert [url for url in opened.asked if not url.startswith(("file:", "data:", "blob:"))] == []
    opened.context.close()


def test_hostile_text_is_shown_and_does_nothing(built: Path, opened: Opened) -> None:
    page = opened.open(built)
    page.fill("#words", "onerror")
    card = page.locator(".pair")
    assert card.count() == 1
    assert EVIL in card.locator(".question").inner_text()
    assert EVIL in card.locator(".side.bad .text").inner_text()
    assert card.locator(".text img, .text script").count() == 0
    assert page.evaluate("window.hacked") is None
    assert "more characters in the pair itself" in card.inner_text()
    assert card.locator(".shots img").evaluate("i => i.naturalWidth") == 96


def test_a_page_fetches_only_itself(built: Path, opened: Opened) -> None:
    opened.open(built)
    assert [url for url in opened.asked if not url.startswith("data:")] == [
        f"file://{built}/report/index.html"
    ]


def test_pairs_are_filtered_by_kind_source_pass_rate_and_words(built: Path, opened: Opened) -> None:
    page = opened.open(built)
    page.locator(".pill", has_text="dropout_ntp").click()
    assert set(page.locator(".pair .tag").all_inner_texts()) == {"dropout_ntp"}
    page.locator(".pill", has_text="format").click()
    assert set(page.locator(".pair .tag").all_inner_texts()) == {"dropout_ntp", "format"}
    page.locator("#filters").evaluate("form => { form.reset(); filter(); }")
    page.select_option("select[name=source]", "plain")
    assert page.locator("#count").inner_text().startswith("70 of ")
    page.fill("input[name=high]", "30")
    rates = set(page.locator(".pair .rate").all_inner_texts())
    assert rates == {"25 % of 4 right", "20 % of 5 right"}
    page.fill("input[name=low]", "25")
    assert set(page.locator(".pair .rate").all_inner_texts()) == {"25 % of 4 right"}
    page.fill("#words", "question number 22?")
    assert set(page.locator(".pair .seed").all_inner_texts()) == {"plain-22"}
    page.fill("#words", "no such words")
    assert page.locator("#nothing").is_visible()


def test_keys_walk_through_all_pairs_and_mark(built: Path, opened: Opened) -> None:
    page = opened.open(built)
    assert len(opened.ids()) == 20  # More are drawn as one goes on.
    for _ in range(31):
        page.keyboard.press("j")
    page.keyboard.press("k")
    ids = opened.ids()
    assert len(ids) > 30
    assert opened.current() == ids[29]
    assert page.evaluate("location.hash") == f"#{ids[29]}"
    top = page.locator(".pair.current").bounding_box()["y"]
    tools = page.locator("#filters").bounding_box()
    assert tools["y"] + tools["height"] <= top < 400  # Not behind the bar of filters.
    page.keyboard.press("x")
    assert page.locator(".pair.marked").count() == 1
    page.keyboard.press("/")
    page.keyboard.type("jxk")  # Typed, not obeyed.
    assert page.input_value("#words") == "jxk"
    assert page.locator("#save").inner_text() == "save reject list (1)"
    page.keyboard.press("Escape")
    page.fill("#words", "")
    page.keyboard.press("Tab")
    page.locator("input[name=marked]").check()
    assert opened.ids() == [ids[29]]


def test_an_address_leads_to_its_pair(built: Path, opened: Opened) -> None:
    page = opened.open(built)
    ids: list[str] = page.evaluate("data.pairs.map(pair => pair.id)")
    page = opened.open(built, f"#{ids[40]}")
    page.reload()
    assert opened.current() == ids[40]
    page.fill("#words", "no such words")
    page.evaluate(f"location.hash = '{ids[3]}'")
    page.wait_for_selector(f".current[id='{ids[3]}']")
    assert page.input_value("#words") == ""
    page.evaluate(f"location.hash = '{'0' * 32}'")
    page.wait_for_selector("#missing:not([hidden])")


def test_marked_pairs_are_left_out_of_the_next_build(
    built: Path, opened: Opened, tmp_path: Path
) -> None:
    page = opened.open(built)
    page.fill("#words", "plain-1")
    for button in page.locator(".mark-it").all()[:2]:
        button.click()
    page.fill("#words", "latex")
    page.locator(".mark-it").click()
    with page.expect_download() as download:
        page.click("#save")
    saved = tmp_path / "reject_list.txt"
    download.value.save_as(saved)
    marked = page.evaluate("[...marks]")
    assert len(marked) == 3
    assert download.value.suggested_filename == "reject_list.txt"

    config = Config(pairing=PairingConfig(reject_list=str(saved)))
    again = tmp_path / "again"
    write_build(again, rollouts(tmp_path / "again-images"), config)
    before, after = read_run(built)["counts"], read_run(again)["counts"]
    assert after["reject_list"] == {"listed": 3, "left_out": 3}
    assert after["pairs"]["total"] == before["pairs"]["total"] - 3
    assert after["drops"]["pairing"]["rejected_by_list"] >= 1
    write_report(again)
    page = opened.open(again)
    assert not set(marked) & set(page.evaluate("data.pairs.map(pair => pair.id)"))
    assert page.locator("#save").inner_text() == "save reject list (3)"  # They stay on the list.
    page.click("#clear")
    assert page.locator("#save").is_disabled()


def test_labels_of_undecided_answers_are_saved_and_decide_the_next_build(
    opened: Opened, tmp_path: Path
) -> None:
    seeds = [Seed(f"odd{EVIL}", f"How many? {EVIL}", (), ("3",)), Seed("even", "2?", (), ("2",))]
    texts = ["it is 3", "so 4", f"{EVIL} huh", "well huh"]
    made = [make_rollout(seed, texts, index=i) for i, seed in enumerate(seeds)]
    write_build(tmp_path / "out", made)
    write_report(tmp_path / "out")
    page = opened.open(tmp_path / "out")
    assert page.locator("#save-labels").is_disabled()
    assert page.locator(".open").count() == 2  # Both responses of a question give one answer.
    page.locator(".open").nth(0).get_by_text("skip", exact=True).click()
    page.locator(".open").nth(0).get_by_text("correct", exact=True).click()
    page.locator(".open").nth(1).get_by_text("skip", exact=True).click()
    page.reload()
    assert page.locator("#save-labels").inner_text() == "save labels.jsonl (2)"
    with page.expect_download() as download:
        page.click("#save-labels")
    saved = tmp_path / "labels.jsonl"
    download.value.save_as(saved)
    assert sorted(read_labels(str(saved)).values()) == ["correct", "skip"]

    config = Config(scoring=ScoringConfig(labels=str(saved)))
    write_build(tmp_path / "again", made, config)
    before, after = (read_run(tmp_path / name)["counts"] for name in ("out", "again"))
    assert after["pairs"]["total"] > before["pairs"]["total"]
    write_report(tmp_path / "again")
    assert opened.open(tmp_path / "again").locator(".open").count() == 0


def test_marks_outlast_the_page(built: Path, opened: Opened) -> None:
    page = opened.open(built)
    page.keyboard.press("j")
    page.keyboard.press("x")
    marked = opened.current()
    page.reload()
    page.locator(f".marked[id='{marked}']").wait_for(state="attached")


def test_formulas_are_drawn_and_can_be_seen_as_written(built: Path, opened: Opened) -> None:
    page = opened.open(built)
    page.fill("#words", "latex")
    chosen = page.locator(".side.good .text")
    assert chosen.locator("mfrac").count() == 1
    assert chosen.locator(".boxed msqrt").count() == 1
    assert chosen.locator("mtext").all_text_contents() == ["<img\xa0src=x>"]
    box = chosen.locator("mfrac").bounding_box()
    assert box["height"] > box["width"]  # Drawn as a fraction, not in a row.
    assert r"$\frac{1}$" in chosen.inner_text()  # Malformed: as written.
    page.locator("h1").click()
    page.keyboard.press("l")
    assert chosen.locator("math").count() == 0
    assert LATEX in chosen.inner_text()


@pytest.mark.parametrize("width", [360, 768, 1280])
def test_the_page_fits_its_window(built: Path, browser: Any, width: int) -> None:
    opened = Opened(browser, width)
    page = opened.open(built)
    if width <= 720:  # There the filters are folded.
        page.click("#more summary")
    page.fill("#words", "onerror")  # The longest words of all.
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    opened.context.close()
