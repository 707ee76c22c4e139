"""A build grows by what its inputs have more: nothing twice, nothing lost, in their order."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from build_files import files_in
from growing_builds import FIRST, SECOND, Row, make_config, question, sample, write
from hypothesis import given, settings, strategies as st
from openai_server import OpenAIServer, choices
from pair_samples import picture

from mmpr_builder.config import Config
from mmpr_builder.errors import BuildConflictError, InputError
from mmpr_builder.folder import parts
from mmpr_builder.folder.manifest import Unit, read_manifest
from mmpr_builder.folder.order import Slice, in_order, shifts_of
from mmpr_builder.io.tables import list_parts, read_parquet
from mmpr_builder.progress import Progress
from mmpr_builder.records import Drop, Seed
from mmpr_builder.runs import plan, planning, read_inputs, run_pairing
from mmpr_builder.runs.extending import Found, Known, new_seeds


def pairs_and_drops(config: Config) -> dict[str, bytes]:
    run_pairing(config, Progress())
    return files_in(config.out, "pairs", "drops")


def part_bytes(config: Config) -> dict[str, bytes]:
    return {uri: Path(uri).read_bytes() for uri in list_parts(f"{config.out}/rollouts")}


BAD = {"id": "bad"}
GROWTH: dict[str, tuple[str, dict[str, list[Row]], list[str], str, dict[str, list[Row]], list[str]]]
GROWTH = {
    "a new source behind": ("a", {"a": FIRST}, [], "ab", {"b": SECOND}, []),
    "a new source in front": ("a", {"a": FIRST}, [], "ba", {"b": SECOND}, []),
    "sources change places": (
        "ab",
        {"a": FIRST, "b": SECOND},
        [],
        "bca",
        {"c": [question(50)]},
        [],
    ),
    "rows behind": ("a", {"a": FIRST[:5]}, [], "a", {"a": FIRST}, []),
    "rows behind the first of two files": (
        *("ab", {"a": FIRST[:5], "b": SECOND}, [], "ab"),
        *({"a": [*FIRST[:5], BAD, *FIRST[5:]]}, []),
    ),
    "rows in front, and bad ones": (
        *("a", {"a": [BAD, *FIRST[3:]]}, [], "a"),
        *({"a": [*FIRST[:3], BAD, {"question": 5}, *FIRST[3:]]}, []),
    ),
    "rows stirred": ("a", {"a": FIRST[::2]}, [], "a", {"a": FIRST[::-1]}, []),
    "a higher limit": ("ab", {"a": FIRST, "b": SECOND}, ["limit=3"], "ab", {}, ["limit=11"]),
    "no limit any more": ("ab", {"a": FIRST, "b": SECOND}, ["limit=3"], "ab", {}, []),
    "a higher limit of one source": (
        *("a2b2", {"a": FIRST, "b": SECOND}, []),
        *("a7b2", {}, []),
    ),
    "a row again in a new file": ("a", {"a": FIRST}, [], "ab", {"b": [FIRST[2], *SECOND]}, []),
}


@pytest.mark.parametrize("case", GROWTH.values(), ids=GROWTH)
def test_the_pairs_of_a_grown_build_are_those_of_a_fresh_one(case: Any, tmp_path: Path) -> None:
    sources, files, overrides, more_sources, more_files, more_overrides = case
    write(tmp_path, **files)
    before = make_config(tmp_path, sources, *overrides)
    first = sample(before)
    kept = part_bytes(before)
    write(tmp_path, **more_files)
    after = make_config(tmp_path, more_sources, *more_overrides)
    second = sample(after, extend=True)
    assert second
    assert not {*first} & {*second}, "nothing is sampled twice"
    assert kept.items() <= part_bytes(after).items(), "what was there keeps its bytes"
    grown = pairs_and_drops(after)
    fresh = make_config(tmp_path, more_sources, *more_overrides, out="fresh")
    assert sorted([*first, *second]) == sorted(sample(fresh))
    expected = pairs_and_drops(fresh)
    if grown != expected:  # A seed says for ever where it was read first.
        assert grown["drops/part-00000.parquet"] == expected["drops/part-00000.parquet"]
        assert grown.keys() == expected.keys()
        tables = [
            read_parquet(f"{config.out}/pairs/part-00000.parquet") for config in (after, fresh)
        ]
        assert tables[0]["origin"] != tables[1]["origin"]
        assert tables[0].drop_columns(["origin"]).equals(tables[1].drop_columns(["origin"]))
        assert more_files.get("a"), "no row moved within its file"


def test_a_build_can_grow_again_and_before_it_is_finished(tmp_path: Path) -> None:
    asked: list[str] = []
    for count, extend in ((3, False), (6, True), (6, True), (9, True)):
        write(tmp_path, a=FIRST[:count], b=SECOND)
        config = make_config(tmp_path, "ab")
        if count == 6:
            plan(config, extend=extend)  # Planned, not sampled.
        else:
            asked += sample(config, extend=extend)
    assert sorted(asked) == sorted(row["id"] for row in [*FIRST, *SECOND])
    assert read_manifest(config.out).extensions == 2
    fresh = make_config(tmp_path, "ab", out="fresh")
    sample(fresh)
    assert pairs_and_drops(config) == pairs_and_drops(fresh)
    assert sample(config) == []  # Without the word, too, once it is done.


def test_opinions_are_asked_once_however_often_a_build_grows(tmp_path: Path) -> None:
    """New rows cut the only part in other places each time; its opinions are found again."""
    own = ["distributed.unit_queries=9", "scoring.scorer=math"]

    def grown(*kept: int) -> None:
        write(tmp_path, a=[question(i, answer=r"\int_0^1 x\,dx") for i in kept])
        sample(make_config(tmp_path, "a", *own), extend=True)

    def asked(*judge: str) -> dict[str, int]:
        run = run_pairing(make_config(tmp_path, "a", *own, *judge), Progress()).run
        found: dict[str, int] = run["this_run"]["scoring"]["judge"]
        return found

    grown(0, 1, 2, 3, 4, 5)
    grown(0, 1, 2, 3, 30, 4, 5)
    with OpenAIServer(lambda body: (200, choices("DIFFERENT"))) as server:
        judge = (f"scoring.judge.url={server.url}", "scoring.judge.model=org/vlm")
        first = asked(*judge)
        assert first["asked"] == len(server.bodies) > 7
        grown(0, 1, 2, 3, 30, 4, 31, 5)
        again = asked(*judge)
        assert again["kept"] == first["asked"]
        assert 0 < again["asked"] < 4
    # Nothing is left to ask, so the server may be gone; with more seeds it is missed at once.
    assert asked(*judge)["asked"] == 0
    grown(0, 1, 2, 3, 30, 4, 31, 5, 32)
    with pytest.raises(InputError, match="does not answer"):
        asked(*judge)


def test_rows_under_one_id_keep_the_ids_they_have(tmp_path: Path) -> None:
    same = [question(1), question(1, question="What else?"), question(1, question="And then?")]
    write(tmp_path, a=same[:1], b=same[2:])
    config = make_config(tmp_path, "ab")
    sample(config)
    write(tmp_path, a=same[:2], b=same[2:])
    assert sample(make_config(tmp_path, "ab"), extend=True) == ["q1#3"]
    units = read_manifest(config.out).units
    texts = {s.id: s.question for u in units for _, s in parts.read_seeds(config.out, u)}
    assert texts == {"q1": "What is 1 + 1?", "q1#2": "And then?", "q1#3": "What else?"}


REFUSED: dict[str, tuple[dict[str, list[Row]], str, list[str], str]] = {
    "a seed is gone": ({"a": FIRST[1:]}, "a", [], r"1 seeds .*'q0'"),
    "a question changed": ({"a": [question(0, question="?"), *FIRST[1:]]}, "a", [], "'q0'"),
    "a truth changed": ({"a": [question(0, answer="7"), *FIRST[1:]]}, "a", [], "'q0'"),
    "a lower limit": ({}, "a", ["limit=2"], r"limit: unset in that build, 2 now"),
    "another source": ({"b": FIRST}, "b", [], r"seeds\.0\.path: .*a\.jsonl.* in that build"),
    "a source's other name": ({}, "a", ["seeds.0.name=x"], r'seeds\.0\.name: unset .* "x" now'),
    "another n": ({"b": SECOND}, "ab", ["sampling.n=5"], r"sampling\.n: 4 in that build, 5 now"),
    "another model": ({"b": SECOND}, "ab", ["model=other"], r'model: "fake" in that build'),
    "other prompts": ({"b": SECOND}, "ab", ["prompts.style=boxed"], r"prompts\.style"),
}


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED)
def test_what_would_change_rollouts_is_refused_by_name(case: Any, tmp_path: Path) -> None:
    files, sources, overrides, named = case
    write(tmp_path, a=FIRST)
    first = plan(make_config(tmp_path, "a"))
    write(tmp_path, **files)
    config = make_config(tmp_path, sources, *overrides)
    with pytest.raises(BuildConflictError, match=named):
        plan(config, extend=True)
    with pytest.raises(BuildConflictError, match=named):
        list(read_inputs(config, extend=True))
    assert read_manifest(config.out) == first, "the old build is as it was"
    write(tmp_path, a=FIRST)
    assert plan(make_config(tmp_path, "a")) == first


def test_a_scorer_that_cannot_use_a_truth_of_the_build_is_named_as_the_reason() -> None:
    seeds = [Seed(f"q{i}", f"What is {i}?", answers=("1",)) for i in range(2)]
    unit = Unit("unit-00000", 0, 2, 0, "digest")
    detail = "a.jsonl:1: undecided_truth: undecided against itself"
    items = [Drop("q0", "audit", "unusable_truth", detail), seeds[1]]
    with (
        closing(Known((unit,), lambda _: list(enumerate(seeds)))) as known,
        pytest.raises(BuildConflictError, match=rf"1 seeds .* no usable truth .*'q0' \({detail}"),
    ):
        list(new_seeds("out", items, known, Found()))


def test_who_could_extend_is_told_so_and_who_could_not_is_not(tmp_path: Path) -> None:
    write(tmp_path, a=FIRST, b=SECOND)
    plan(make_config(tmp_path, "a"))
    for sources, overrides, told in [("ab", [], True), ("ab", ["sampling.n=5"], False)]:
        with pytest.raises(BuildConflictError) as caught:
            plan(make_config(tmp_path, sources, *overrides))
        assert ("--extend" in str(caught.value)) is told


def test_a_look_ahead_counts_only_what_is_new(tmp_path: Path) -> None:
    write(tmp_path, a=FIRST, b=SECOND)
    plan(make_config(tmp_path, "a"))
    items = list(read_inputs(make_config(tmp_path, "ab"), extend=True))
    assert [item.id for item in items if isinstance(item, Seed)] == [row["id"] for row in SECOND]
    assert read_manifest(str(tmp_path / "out")).extensions == 0


def test_an_extension_that_died_before_its_end_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, a=FIRST)
    first = plan(make_config(tmp_path, "a"))
    write(tmp_path, b=SECOND)

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("mmpr_builder.runs.planning.write_manifest", die)
        with pytest.raises(KeyboardInterrupt):
            plan(make_config(tmp_path, "ab"), extend=True)
    assert plan(make_config(tmp_path, "a")) == first
    write(tmp_path, b=SECOND[:2])
    grown = plan(make_config(tmp_path, "ab"), extend=True)
    assert grown.seeds == len(FIRST) + 2


def test_more_demo_seeds_can_be_had(tmp_path: Path) -> None:
    words = ["seeds=demo", f"out={tmp_path / 'out'}"]
    first = make_config(tmp_path, "a", *words, "limit=3")
    plan(first)
    images = {p.name: p.read_bytes() for p in (tmp_path / "out/demo_seeds/images").iterdir()}
    grown = plan(make_config(tmp_path, "a", *words, "limit=5"), extend=True)
    assert [unit.count for unit in grown.units] == [3, 2]
    now = {p.name: p.read_bytes() for p in (tmp_path / "out/demo_seeds/images").iterdir()}
    assert images.items() <= now.items()
    assert len(now) == 5


FAILURES: dict[str, tuple[str, Callable[[], BaseException]]] = {
    "a full disk, at the second unit": ("write_parquet", lambda: OSError(28, "No space left")),
    "a stop, at the order": ("write_order", KeyboardInterrupt),
    "another run, before the end": ("extended", lambda: BuildConflictError("another run")),
}


@pytest.mark.parametrize("case", FAILURES)
def test_an_extension_that_fails_leaves_nothing_behind(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [f"seeds=[demo, {tmp_path / 'a.jsonl'}]", f"out={tmp_path / 'out'}"]
    write(tmp_path, a=FIRST)
    plan(make_config(tmp_path, "a", *words, "limit=3"))
    before = files_in(f"{tmp_path}/out")
    name, error = FAILURES[case]
    real = getattr(planning, name)
    calls: list[object] = []

    def fail(*args: Any) -> Any:
        calls.append(args)
        if len(calls) == 1 and name == "write_parquet":
            return real(*args)
        assert files_in(f"{tmp_path}/out").keys() > before.keys()
        raise error()

    with monkeypatch.context() as patch:
        patch.setattr(planning, name, fail)
        with pytest.raises(type(error())):
            plan(make_config(tmp_path, "a", *words, "limit=14"), extend=True)
    assert files_in(f"{tmp_path}/out") == before


def test_a_refused_extension_leaves_nothing_behind(tmp_path: Path) -> None:
    write(tmp_path, a=FIRST)
    plan(make_config(tmp_path, "a"))
    before = files_in(f"{tmp_path}/out")
    write(tmp_path, a=FIRST[1:], b=SECOND)  # Found out at the end, with units of b written.
    with pytest.raises(BuildConflictError, match="'q0'"):
        plan(make_config(tmp_path, "ab"), extend=True)
    assert files_in(f"{tmp_path}/out") == before


def test_what_a_killed_extension_left_goes_with_the_next_plan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It could not tidy; and it is not tidied where the manifest may have been written after all:
    a storage that gave no answer can have taken it."""
    words = ["seeds=demo", f"out={tmp_path / 'out'}"]
    first = make_config(tmp_path, "a", *words, "limit=3")
    planned = plan(first)
    before = files_in(first.out)

    def no_answer(*_: object) -> None:
        raise OSError("no answer")

    with monkeypatch.context() as patch:
        patch.setattr(planning, "write_manifest", no_answer)
        with pytest.raises(OSError, match="no answer"):
            plan(make_config(tmp_path, "a", *words, "limit=9"), extend=True)
    left = files_in(first.out)
    new = {"seeds/unit-00001.parquet", "seeds/drops-1.parquet", "seeds/order-1.parquet"}
    assert new < left.keys() - before.keys()
    assert plan(first) == planned
    assert files_in(first.out) == before


def test_a_build_that_was_moved_is_told_why_it_cannot_grow(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    words = ["seeds=demo", f"out={old}"]
    plan(make_config(tmp_path, "a", *words, "limit=3"))
    old.rename(new)
    before = files_in(str(new))
    moved = make_config(tmp_path, "a", "seeds=demo", f"out={new}", "limit=5")
    said = f"3 seeds of this build .*images were in {old} when .* are in {new} now.*a link"
    with pytest.raises(BuildConflictError, match=said):
        plan(moved, extend=True)
    assert files_in(str(new)) == before
    old.symlink_to(new)  # As the message says.
    grown = plan(make_config(tmp_path, "a", *words, "limit=5"), extend=True)
    assert [unit.count for unit in grown.units] == [3, 2]


def test_another_picture_under_the_same_id_is_not_taken_for_a_move(tmp_path: Path) -> None:
    ask = {"question": "<image>\nHow many?", "answer": "3"}
    write(tmp_path, a=[{"id": "q1", "image": "x/1.png", **ask}, question(2)])
    plan(make_config(tmp_path, "a"))
    write(tmp_path, a=[{"id": "q1", "image": "x/2.png", **ask}, question(2)])
    with pytest.raises(BuildConflictError, match=r"'q1'\. A build can grow, not change"):
        plan(make_config(tmp_path, "a"), extend=True)


def test_a_copy_elsewhere_of_seeds_that_are_there_is_not_taken_for_a_move(tmp_path: Path) -> None:
    asked = [
        {"id": f"q{i}", "image": f"{i}.png", "question": "<image>\nHow many?", "answer": "3"}
        for i in range(4)
    ]
    write(tmp_path, a=asked)
    plan(make_config(tmp_path, "a"))
    write(tmp_path, a=asked[:3])
    (tmp_path / "copy").mkdir()
    write(tmp_path / "copy", b=asked[:3])
    both = [f"seeds={tmp_path / 'a.jsonl'},{tmp_path / 'copy' / 'b.jsonl'}"]
    with pytest.raises(BuildConflictError, match=r"'q3'\. A build can grow, not change"):
        plan(make_config(tmp_path, "a", *both), extend=True)


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_slices_go_through_all_rows_in_the_order_of_the_input(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 24))
    places = data.draw(st.permutations(range(0, 2 * count, 2)))
    indices = sorted(data.draw(st.sets(st.integers(0, 60), min_size=count, max_size=count)))
    size = data.draw(st.integers(1, 7))
    units = []
    rows: dict[str, list[int]] = {}
    for start in range(0, count, size):
        held = indices[start : start + size]
        unit = Unit(f"unit-{start:05}", held[0], len(held), 0, "")
        units.append((unit, Slice(f"out/{unit.name}.parquet")))
        rows[units[-1][1].uri] = held
    place_of = dict(zip(indices, places, strict=True))
    slices = in_order(units, shifts_of(place_of.items()))
    seen = [
        (index, index + piece.shift)
        for piece in slices
        for index in rows[piece.uri]
        if piece.holds(index)
    ]
    assert seen == sorted(place_of.items(), key=lambda item: item[1])
    assert len({piece.name for piece in slices}) == len(slices)


def test_seed_files_of_the_old_units_are_not_touched(tmp_path: Path) -> None:
    write(tmp_path, a=FIRST)
    config = make_config(tmp_path, "a")
    plan(config)
    before = {p.name: p.read_bytes() for p in (tmp_path / "out" / "seeds").iterdir()}
    write(tmp_path, b=SECOND)
    plan(make_config(tmp_path, "ab"), extend=True)
    after = {p.name: p.read_bytes() for p in (tmp_path / "out" / "seeds").iterdir()}
    assert before.items() <= after.items()
    assert read_parquet(tmp_path / "out/seeds/order-1.parquet").to_pylist() == [
        {"first": 0, "shift": 0}
    ]


def test_rows_that_a_setting_opens_are_added_by_an_extension(tmp_path: Path) -> None:
    for name in ("else", "data"):
        (tmp_path / name).mkdir()
    picture(tmp_path / "else" / "1.png", "red")
    rows = [question(0), question(1, image=f"{tmp_path}/else/1.png")]
    write(tmp_path / "data", a=rows)
    config = make_config(tmp_path / "data", "a")
    assert sample(config) == ["q0"]
    opened = make_config(tmp_path / "data", "a", f"seeds.0.roots=[{tmp_path / 'else'}]")
    with pytest.raises(
        BuildConflictError, match=r"(?s)seeds\.0\.roots: \[\] in that build.*--extend"
    ):
        plan(opened)
    assert sample(opened, extend=True) == ["q1"]
