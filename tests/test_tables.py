"""Records survive the way to disk and back; a part is there whole or not at all."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings, strategies as st

from mmpr_builder.errors import InputError
from mmpr_builder.io import tables
from mmpr_builder.records import (
    Comparison,
    Continuation,
    Drop,
    ImageRef,
    Response,
    Rollout,
    Seed,
    Trace,
)

TEXT = st.text(max_size=12)  # Hypothesis leaves surrogates out by itself.
INT = st.integers(0, 2**40)
MAYBE_INT = st.none() | INT
REFS = st.builds(ImageRef, uri=TEXT, row=MAYBE_INT, column=st.none() | TEXT, index=MAYBE_INT)
TEXTS = st.lists(TEXT, max_size=3).map(tuple)
SEEDS = st.builds(
    Seed,
    id=TEXT,
    question=TEXT,
    images=st.lists(REFS, max_size=2).map(tuple),
    answers=TEXTS,
    choices=TEXTS,
    source=TEXT,
    language=st.sampled_from(["en", "zh"]),
    scorer=st.sampled_from(["auto", "math"]),
    origin=TEXT,
)
FLOAT = st.floats(allow_nan=False, allow_infinity=False)
CONTINUATIONS = st.builds(
    Continuation, prefix=TEXT, text=TEXT, tokens=INT, finish_reason=TEXT, seed=INT, keep=FLOAT
)
TRACES = st.builds(
    Trace,
    token_ids=st.lists(st.integers(0, 2**18), max_size=3).map(tuple),
    logprob=FLOAT,
    reference=st.none() | FLOAT,
    missing=TEXT,
    by=TEXT,
)
RESPONSES = st.builds(
    Response,
    text=TEXT,
    tokens=INT,
    finish_reason=st.sampled_from(["stop", "length", "abort"]),
    seed=INT,
    logprob=st.none() | FLOAT,
    continuation=st.none() | CONTINUATIONS,
)
TRACED = st.builds(dataclasses.replace, CONTINUATIONS, trace=st.none() | TRACES)
COMPARISONS = st.builds(Comparison, TEXT, TEXT, TEXT, TEXT, st.integers(0, 4096))
CONTINUED = st.builds(
    Response.with_continuations,
    st.builds(
        dataclasses.replace,
        RESPONSES,
        trace=st.none() | TRACES,
        with_image=st.lists(CONTINUATIONS, max_size=2).map(tuple),
        compared=st.lists(COMPARISONS, max_size=2).map(tuple),
    ),
    st.lists(TRACED, max_size=4).map(tuple),
)
SAMPLES = RESPONSES.map(lambda response: response.with_continuations(()))
ROLLOUTS = st.builds(
    Rollout,
    seed=SEEDS,
    prompt=TEXT,
    template=TEXT,
    style=st.sampled_from(["final_answer", "open"]),
    model=TEXT,
    image_sha256=TEXTS,
    responses=st.lists(RESPONSES, max_size=3).map(tuple),
    prompt_tokens=INT,
    error=st.none() | st.tuples(TEXT, TEXT),
    index=INT,
)


def rollout(i: int, text: str = "Final answer: 3") -> Rollout:
    seed = Seed(id=f"s{i}", question="<image>\nHow many?", images=(ImageRef("a.png"),))
    response = Response(text=text, tokens=4, finish_reason="stop", seed=i)
    return Rollout(
        seed=seed,
        prompt=seed.question,
        template="final_answer_en",
        style="final_answer",
        model="demo",
        responses=(response,),
        index=i,
    )


@settings(max_examples=60, deadline=None)
@given(st.lists(ROLLOUTS, max_size=4))
def test_rollouts_come_back_from_arrow_unchanged(rollouts: list[Rollout]) -> None:
    table = tables.rollouts_to_table(rollouts)
    assert table.schema.equals(tables.ROLLOUT_SCHEMA)
    assert tables.rollouts_from_table(table) == rollouts


UNSEEN = st.builds(
    dataclasses.replace,
    ROLLOUTS,
    responses=st.lists(CONTINUED, max_size=3).map(tuple),
    blind=st.lists(SAMPLES, max_size=3).map(tuple),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(UNSEEN, max_size=4), st.sets(st.sampled_from(sorted(tables.OPTIONAL_COLUMNS))))
def test_samples_without_images_further_ratios_and_traces_come_back_unchanged(
    rollouts: list[Rollout], asked: set[str]
) -> None:
    filled = {tables.BLIND: any(r.blind for r in rollouts)}
    filled[tables.FURTHER] = any(r.further for one in rollouts for r in one.responses)
    filled[tables.WITH_IMAGE] = any(r.with_image for one in rollouts for r in one.responses)
    filled[tables.COMPARED] = any(r.compared for one in rollouts for r in one.responses)
    filled[tables.TRACES] = any(t for one in rollouts for r in one.responses for t in r.traces)
    table = tables.rollouts_to_table(rollouts, sorted(asked))
    assert table.schema.names[: len(tables.ROLLOUT_SCHEMA)] == tables.ROLLOUT_SCHEMA.names
    more = {name for name in filled if filled[name] or name in asked}
    assert {*table.schema.names} == {*tables.ROLLOUT_SCHEMA.names} | more
    assert tables.fits(table.schema, tables.ROLLOUT_SCHEMA)
    assert tables.rollouts_from_table(table) == rollouts
    assert tables.rollouts_from_table(table.slice(1, 2)) == rollouts[1:3]


def test_other_columns_than_the_optional_ones_are_another_schema() -> None:
    table = tables.rollouts_to_table([rollout(0)])
    odd = table.append_column("blind", pa.array([3]))
    assert not tables.fits(odd.schema, tables.ROLLOUT_SCHEMA)
    assert not tables.fits(table.append_column("x", pa.array([3])).schema, tables.ROLLOUT_SCHEMA)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(INT, SEEDS), max_size=4))
def test_seeds_come_back_from_arrow_unchanged(seeds: list[tuple[int, Seed]]) -> None:
    table = tables.seeds_to_table(seeds)
    assert table.schema.equals(tables.SEED_SCHEMA)
    assert tables.seeds_from_table(table) == seeds


def test_drops_come_back_from_disk_unchanged(tmp_path: Path) -> None:
    drops = [Drop("a", "seeds", "image_missing", "a.png"), Drop("b", "pairing", "all_correct")]
    tables.write_parquet(tables.drops_to_table(drops), tmp_path / "d.parquet")
    table = tables.read_parquet(tmp_path / "d.parquet")
    assert table.schema.equals(tables.DROP_SCHEMA)
    assert tables.drops_from_table(table) == drops


def test_an_empty_table_keeps_its_schema_on_disk(tmp_path: Path) -> None:
    tables.write_parquet(tables.rollouts_to_table([]), tmp_path / "none.parquet")
    table = tables.read_parquet(tmp_path / "none.parquet")
    assert table.schema.equals(tables.ROLLOUT_SCHEMA)
    assert tables.rollouts_from_table(table) == []


def test_more_rows_than_one_batch_come_back_in_order(tmp_path: Path) -> None:
    rollouts = [rollout(i) for i in range(700)]
    tables.write_parquet(tables.rollouts_to_table(rollouts), tmp_path / "r.parquet")
    assert tables.rollouts_from_table(tables.read_parquet(tmp_path / "r.parquet")) == rollouts


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ("half \ud83d", "half �"),
        ("\udc00 other half", "� other half"),
        ("\ud83d\ude00", "😀"),
        ("\x00 null and 汉字 😀", "\x00 null and 汉字 😀"),
    ],
)
def test_lone_surrogates_are_replaced_and_the_rest_is_kept(text: str, stored: str) -> None:
    (back,) = tables.rollouts_from_table(tables.rollouts_to_table([rollout(0, text)]))
    assert back.responses[0].text == stored


def test_the_same_records_give_the_same_bytes(tmp_path: Path) -> None:
    rollouts = [rollout(i) for i in range(300)]
    whole = tables.rollouts_to_table(rollouts)
    pieces = pa.concat_tables([tables.rollouts_to_table([r]) for r in rollouts])
    tables.write_parquet(whole, tmp_path / "a.parquet")
    tables.write_parquet(pieces, tmp_path / "b.parquet")
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


def test_row_groups_stay_below_the_limit_even_when_rows_are_skewed(tmp_path: Path) -> None:
    rollouts = [rollout(i, "x" * (50_000 if i > 90 else 10)) for i in range(100)]
    path = tmp_path / "r.parquet"
    tables.write_parquet(tables.rollouts_to_table(rollouts), path, row_group_bytes=120_000)
    file = pq.ParquetFile(path)
    groups = [file.read_row_group(i) for i in range(file.num_row_groups)]
    assert len(groups) > 3
    assert all(group.nbytes <= 125_000 for group in groups)  # Buffers are padded a little.
    assert sum(group.num_rows for group in groups) == 100


def test_parts_are_compressed_with_zstandard(tmp_path: Path) -> None:
    tables.write_parquet(tables.rollouts_to_table([rollout(0)]), tmp_path / "r.parquet")
    column = pq.ParquetFile(tmp_path / "r.parquet").metadata.row_group(0).column(0)
    assert column.compression == "ZSTD"


def test_a_write_that_fails_leaves_the_old_part_and_no_litter(tmp_path: Path) -> None:
    path = tmp_path / "d.parquet"
    tables.write_parquet(tables.drops_to_table([Drop("a", "seeds", "old")]), path)
    before = path.read_bytes()

    class Failing:
        """A table whose bytes cannot be had."""

        schema = tables.DROP_SCHEMA
        num_rows = 2

        @property
        def nbytes(self) -> int:
            raise MemoryError("no room")

    with pytest.raises(MemoryError):
        tables.write_parquet(Failing(), path)  # type: ignore[arg-type]
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["d.parquet"]


def test_list_parts_takes_complete_parts_only_and_broken_parts_names_the_rest(
    tmp_path: Path,
) -> None:
    good = tables.rollouts_to_table([rollout(0)])
    for name in ("unit-00010", "unit-00002"):
        tables.write_parquet(good, tmp_path / f"{name}.parquet")
    data = (tmp_path / "unit-00002.parquet").read_bytes()
    (tmp_path / "torn.parquet").write_bytes(data[: len(data) // 2])
    (tmp_path / "empty.parquet").write_bytes(b"")
    (tmp_path / ".unit-00003.parquet.1-2.tmp").write_bytes(data)
    (tmp_path / "notes.txt").write_text("not a part")
    tables.write_parquet(tables.drops_to_table([]), tmp_path / "foreign.parquet")

    def names(uris: list[str]) -> list[str]:
        return [Path(uri).name for uri in uris]

    assert names(tables.list_parts(tmp_path, tables.ROLLOUT_SCHEMA)) == [
        "unit-00002.parquet",
        "unit-00010.parquet",
    ]
    assert names(tables.broken_parts(tmp_path, tables.ROLLOUT_SCHEMA)) == [
        "empty.parquet",
        "foreign.parquet",
        "torn.parquet",
    ]
    assert "foreign.parquet" in names(tables.list_parts(tmp_path))
    with pytest.raises(InputError, match=r"torn\.parquet.*remove it"):
        tables.read_parquet(tmp_path / "torn.parquet")


def test_a_folder_that_is_not_there_has_no_parts(tmp_path: Path) -> None:
    assert tables.list_parts(tmp_path / "none") == []
    assert tables.broken_parts(tmp_path / "none") == []


def test_any_fsspec_file_system_will_do() -> None:
    folder = "memory://mmpr-test-tables/rollouts"
    fs = fsspec.filesystem("memory")
    try:
        tables.write_parquet(tables.rollouts_to_table([rollout(1)]), f"{folder}/unit-0.parquet")
        (uri,) = tables.list_parts(folder, tables.ROLLOUT_SCHEMA)
        assert uri == f"{folder}/unit-0.parquet"
        assert tables.rollouts_from_table(tables.read_parquet(uri)) == [rollout(1)]
    finally:
        fs.rm("/mmpr-test-tables", recursive=True)


def test_an_unknown_protocol_is_an_input_error() -> None:
    with pytest.raises(InputError, match="nosuch"):
        tables.list_parts("nosuch://bucket/rollouts")


def test_schemas_name_every_field_of_their_records() -> None:
    def names(record: type) -> set[str]:
        return {field.name for field in dataclasses.fields(record)}

    of_seed = names(Seed) - {"truth_source"}  # Found in pairing.
    assert set(tables.SEED_SCHEMA.names) == of_seed | {"index"}
    rollouts = {*tables.ROLLOUT_SCHEMA.names, tables.BLIND}
    assert rollouts == (names(Rollout) - {"seed"}) | of_seed
    assert tables.DROP_SCHEMA.names == ["item_id", "stage", "reason", "detail"]


def test_a_slice_of_a_table_gives_its_own_rollouts() -> None:
    continued = Continuation("a", " b", 1, "stop", 3, 0.5)
    rollouts = [rollout(i, f"text {i}") for i in range(9)]
    rollouts[4] = dataclasses.replace(
        rollouts[4],
        responses=(
            Response("x", 1, "stop", 0, continuation=continued),
            Response("y", 1, "stop", 1, logprob=-0.5),
        ),
    )
    rollouts[5] = dataclasses.replace(rollouts[5], responses=())
    table = tables.rollouts_to_table(rollouts)
    for start, count in ((0, 9), (3, 4), (5, 1), (8, 1), (2, 0)):
        assert tables.rollouts_from_table(table.slice(start, count)) == rollouts[start:][:count]


def test_half_an_emoji_in_a_response_does_not_stop_the_writing() -> None:
    table = tables.rollouts_to_table([rollout(0, "fine"), rollout(1, "half \ud83d")])
    texts = [r.responses[0].text for r in tables.rollouts_from_table(table)]
    assert texts == ["fine", "half �"]
