"""Units: which work is next, what an actor keeps of it, and what a stop leaves."""

from __future__ import annotations

import asyncio
from pathlib import Path

import fake_samplers
import pytest
from hypothesis import given, settings, strategies as st
from small_builds import ids, make_config, sample_here

from mmpr_builder.config import Config, load_config
from mmpr_builder.folder import parts
from mmpr_builder.folder.manifest import Unit, read_manifest
from mmpr_builder.runs import plan
from mmpr_builder.runs.actors import SamplerActor, max_in_flight
from mmpr_builder.runs.work_queue import Work, WorkQueue


def test_what_was_asked_of_an_actor_is_answered_before_its_engine_loads(tmp_path: Path) -> None:
    """Where it runs, that is; while it loads nothing can be told."""
    order: list[str] = []

    def load(config: Config) -> fake_samplers.FakeSampler:
        order.append("loads")
        return fake_samplers.answers(config)

    async def work() -> None:
        where = asyncio.ensure_future(asyncio.sleep(0))
        where.add_done_callback(lambda _: order.append("answered"))
        await SamplerActor(make_config(tmp_path, 1), load).start()

    asyncio.run(work())
    assert order == ["answered", "loads"]


def unit(number: int, count: int = 8) -> Unit:
    return Unit(f"unit-{number:05}", number * 100, count, 0, f"digest{number}")


def rows_of(one: Unit) -> list[int]:
    return [one.first + i for i in range(one.count)]


def test_units_are_handed_out_in_order_up_to_the_limit() -> None:
    queue = WorkQueue(map(unit, range(3)), 3, rows_of)
    works: list[Work] = []
    while (work := queue.take(works, 2)) is not None:
        works.append(work)
    assert [work.unit.name for work in works] == ["unit-00000", "unit-00001"]
    assert len(queue) == 1


def test_a_suspect_gets_an_engine_to_itself() -> None:
    queue = WorkQueue([unit(0), unit(1)], 3, rows_of)
    for _ in range(2):
        works = [queue.take([], 4), queue.take([], 4)]
        queue.died([work for work in works if work])
    first = queue.take([], 4)
    assert first is not None
    assert first.alone
    assert queue.take([first], 4) is None
    innocent = Work(unit(7))
    assert queue.take([innocent], 4) is None


def test_one_death_together_with_others_convicts_nobody() -> None:
    queue = WorkQueue(map(unit, range(4)), 1, rows_of)
    works = [queue.take([], 9) for _ in range(4)]
    assert queue.died([work for work in works if work]) == []
    assert all(work.rows is None for work in queue._waiting)


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=6),
    poison=st.sets(st.tuples(st.integers(0, 5), st.integers(0, 8)), max_size=3),
    max_tries=st.integers(1, 4),
    limit=st.integers(1, 3),
)
def test_exactly_the_rows_that_kill_are_set_aside(
    sizes: list[int], poison: set[tuple[int, int]], max_tries: int, limit: int
) -> None:
    units = [unit(i, size) for i, size in enumerate(sizes)]
    deadly = {u * 100 + row for u, row in poison if u < len(sizes) and row < sizes[u]}
    queue = WorkQueue(units, max_tries, rows_of)
    delivered: list[int] = []
    guilty: list[int] = []
    for _ in range(10_000):
        works: list[Work] = []
        while (work := queue.take(works, limit)) is not None:
            works.append(work)
        if not works:
            break
        rows = [row for w in works for row in (rows_of(w.unit) if w.rows is None else w.rows)]
        if deadly & set(rows):
            guilty += [w.rows[0] for w in queue.died(works) if w.rows]
        else:
            delivered += rows
    assert not len(queue)
    assert sorted(guilty) == sorted(deadly)
    assert sorted(delivered) == sorted({r for u in units for r in rows_of(u)} - deadly)


def test_work_that_fails_without_a_death_is_given_up_after_max_tries() -> None:
    queue = WorkQueue([unit(0)], 2, rows_of)
    work = queue.take([], 1)
    assert work is not None
    assert queue.try_again(work)
    again = queue.take([], 1)
    assert again is not None
    assert not queue.try_again(again)


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["sampling.n=32"], 32),
        (["sampling.n=1"], 256),
        (["sampling.n=4096"], 8),
        (["sampling.n=8", "engine.max_num_seqs=64"], 16),
        (["sampling.engine=endpoint", "sampling.endpoint.concurrency=7"], 7),
    ],
)
def test_seeds_in_flight_keep_an_engine_full_and_memory_bounded(
    overrides: list[str], expected: int
) -> None:
    assert max_in_flight(load_config(None, overrides)) == expected


def test_a_torn_and_a_foreign_part_are_noticed(tmp_path: Path) -> None:
    config = make_config(tmp_path, 12)
    sample_here(config)
    manifest = read_manifest(config.out)
    assert len(parts.published(config.out, manifest.units)) == 3
    first, second, third = (Path(parts.rollouts_uri(config.out, u)) for u in manifest.units)
    first.write_bytes(first.read_bytes()[:-20])
    second.write_bytes(third.read_bytes())
    assert list(parts.published(config.out, manifest.units)) == [manifest.units[2].name]


def test_rows_kept_of_an_unfinished_unit_are_not_sampled_again(tmp_path: Path) -> None:
    config = make_config(tmp_path, 4)
    (one,) = plan(config).units
    indices = [index for index, _ in parts.read_seeds(config.out, one)]

    async def work(rows: list[int] | None) -> tuple[int, bool]:
        actor = SamplerActor(config, fake_samplers.answers)
        await actor.start()
        result = await actor.sample(0, one, rows)
        return result.kept.seeds, result.published

    assert asyncio.run(work(indices[1:3])) == (2, False)
    assert ids(config) == []
    assert asyncio.run(work(None)) == (2, True)
    assert ids(config) == ["q0", "q1", "q2", "q3"]
    assert not (Path(config.out) / "partial" / one.name).exists()
