"""Decontamination measured: leaks planted on purpose, and unrelated pictures that must pass.

    python -m benchmarks.decontamination --seeds data/a.jsonl data/b.jsonl

The evaluation set are all rows of the given files whose pictures open. Leaks are those rows, their
picture changed in one way and their question paraphrased a little by rules; with their own question
they are near-duplicates. Unrelated are the pictures of one file against the rows of all others
(rows of one file can show the same map), whole, mirrored and in quarters; then pictures of the
demo's world against others of it, which are flat and collide in perceptual hashes. Their question
is taken to be similar to every other (`question_similarity=0`), the hardest case: only the pictures
can tell. Without --seeds the demo's world serves for both.
"""

from __future__ import annotations

import io
import random
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

from PIL import Image, ImageOps

from benchmarks.results import parser, record, table
from mmpr_builder.config import Config, DecontaminateConfig
from mmpr_builder.demo.drawing import draw
from mmpr_builder.demo.questions import ask
from mmpr_builder.demo.world import make_scene
from mmpr_builder.errors import RowError
from mmpr_builder.io.images import open_image, read_bytes
from mmpr_builder.quality.contamination import Decontaminator, index_evaluation
from mmpr_builder.quality.screening import screen_seeds
from mmpr_builder.records import Drop, ImageRef, Seed
from mmpr_builder.seeds import read_seeds

Change = Callable[[Image.Image, random.Random], Image.Image]

LOOSE = DecontaminateConfig(question_similarity=0.0)
"""Every question counts as similar: the pictures alone decide, as loosely as they ever do."""
ALONE = DecontaminateConfig(policy="image", question_similarity=1.0)


@dataclass(frozen=True)
class Row:
    """A seed with its pictures opened."""

    seed: Seed
    picture: Image.Image


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    data = io.BytesIO()
    image.save(data, "JPEG", quality=quality)
    return open_image(data.getvalue())


def scaled(image: Image.Image, factor: float) -> Image.Image:
    size = (max(8, round(image.width * factor)), max(8, round(image.height * factor)))
    return image.resize(size, Image.Resampling.LANCZOS)


def cropped(image: Image.Image, rng: random.Random, part: float) -> Image.Image:
    """`part` of width and of height cut off, divided at random between the sides."""
    left, top = rng.random() * part, rng.random() * part
    width, height = image.size
    box = (left * width, top * height, (1 - part + left) * width, (1 - part + top) * height)
    x0, y0, x1, y1 = (round(edge) for edge in box)
    return image.crop((x0, y0, max(x1, x0 + 1), max(y1, y0 + 1)))


CHANGES: dict[str, Change] = {
    "unchanged": lambda image, rng: image,
    "resized to 50 %": lambda image, rng: scaled(image, 0.5),
    "resized to 150 %": lambda image, rng: scaled(image, 1.5),
    "resized to 336 x 336": lambda image, rng: image.resize((336, 336)),
    "JPEG, quality 75": lambda image, rng: jpeg(image, 75),
    "JPEG, quality 40": lambda image, rng: jpeg(image, 40),
    "cropped by 5 %": lambda image, rng: cropped(image, rng, 0.05),
    "cropped by 2 to 8 %": lambda image, rng: cropped(image, rng, 0.02 + 0.06 * rng.random()),
    "cropped by 5 %, to 60 %, JPEG 60": lambda image, rng: jpeg(
        scaled(cropped(image, rng, 0.05), 0.6), 60
    ),
}
_SYNONYMS = (
    ("How many ", "What number of "), ("Which of the following", "Which of these"),
    ("What is", "What's"), ("Find ", "Determine "), ("picture", "image"), ("shown", "given"),
    ("number of", "count of"), ("如图", "如下图"), ("下列", "以下"), ("所示", "所给"),
)  # fmt: skip


def paraphrased(question: str, rng: random.Random) -> str:
    """Other words in a place or two, an opening, a word left out, other case."""
    for old, new in _SYNONYMS:
        if rng.random() < 0.5:
            question = question.replace(old, new, 1)
    head, line, rest = question.partition("\n")
    parts = head.split(" ")
    if len(parts) > 6:
        del parts[rng.randrange(1, len(parts))]
    chinese = any("\u4e00" <= character <= "\u9fff" for character in head)
    opening = "请看图，" if chinese else rng.choice(("", "Look carefully: ", "Please answer. "))
    return opening + " ".join(parts).replace("<image>", "").capitalize() + line + rest


def main() -> None:
    options = parser("decontamination", synthetic=1000)
    options.add_argument("--seeds", nargs="*", default=[], help="files of real questions")
    args = options.parse_args()
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        demo = list(demo_rows(Path(folder), args.synthetic))
        files = [list(real_rows(path)) for path in args.seeds]
        sources = [rows for rows in files if rows] or [demo[::2], demo[1::2]]
        lines = recall_lines(Path(folder), [row for rows in sources for row in rows])
        lines += ["", *false_alarm_lines(Path(folder), sources if files else [], demo)]
    lines += ["", f"{time.perf_counter() - began:.0f} s in all."]
    record("decontamination", "Decontamination", lines, args.results)


def recall_lines(folder: Path, rows: Sequence[Row]) -> list[str]:
    """Leaks found, by what was done to the picture."""
    config = DecontaminateConfig()
    index = index_evaluation((("evaluation", row.seed) for row in rows), config)
    checkers = [Decontaminator(index, config), Decontaminator(index, ALONE)]
    found = []
    for name, change in CHANGES.items():
        leaks = list(planted(folder, rows, change))
        hits = [sum(checker.leak(leak) is not None for leak in leaks) for checker in checkers]
        hits.append(near_duplicates(rows, leaks))
        found.append((name, *(f"{hit} of {len(leaks)} ({hit / len(leaks):.1%})" for hit in hits)))
    texts = [row.seed for row in rows if len(row.seed.question) >= 100]
    bare = [replace(seed, images=(), question=paraphrased(seed.question, random.Random(i)))
            for i, seed in enumerate(texts)]  # fmt: skip
    hit = sum(checkers[0].leak(seed) is not None for seed in bare)
    if bare:
        share = f"{hit} of {len(bare)} ({hit / len(bare):.1%})"
        found.append(("no picture, question of 100 characters or more", share, "–", "–"))
    head = ("planted leak, question paraphrased", "found", "found by the picture alone")
    return table((*head, "near-duplicates, same question"), found)


def near_duplicates(rows: Sequence[Row], leaks: Sequence[Seed]) -> int:
    """How many of the changed pictures, each with its own question, repeat a row."""
    copies = [
        replace(leak, id=f"copy {number}", question=row.seed.question)
        for number, (row, leak) in enumerate(zip(rows, leaks, strict=True))
    ]
    config = Config.model_validate({"quality": {"near_duplicates": True}})
    found = screen_seeds([*(row.seed for row in rows), *copies], config)
    return sum(isinstance(item, Drop) and item.item_id.startswith("copy ") for item in found)


def planted(folder: Path, rows: Sequence[Row], change: Change) -> Iterator[Seed]:
    for number, row in enumerate(rows):
        rng = random.Random(number)
        place = folder / f"leak-{number}.png"
        change(row.picture, rng).save(place, compress_level=1)
        question = paraphrased(row.seed.question, rng)
        yield replace(row.seed, question=question, images=(ImageRef(str(place)),))


def false_alarm_lines(
    folder: Path, sources: Sequence[Sequence[Row]], demo: Sequence[Row]
) -> list[str]:
    """Unrelated pictures that were taken for leaks."""
    found = []
    counts = {"whole": [0, 0, 0], "mirrored, quarters": [0, 0, 0]}
    for rows in sources:
        others = [row for other in sources if other is not rows for row in other]
        for name, images in altered(unique(rows)).items():
            add(counts[name], alarms(folder, others, images))
    if sources:
        found += [(f"real, {name}", *shown(count)) for name, count in counts.items()]
    half = len(demo) // 2
    images = [row.picture for row in unique(demo[half:])]
    found.append(("demo's world", *shown(alarms(folder, demo[:half], images))))
    head = ("unrelated pictures", "seeds", "any question similar", "by the picture alone")
    return table(head, found)


def alarms(folder: Path, rows: Sequence[Row], images: Iterable[Image.Image]) -> list[int]:
    """[seeds, dropped with any question similar, dropped by the picture alone]."""
    index = index_evaluation((("evaluation", row.seed) for row in rows), LOOSE)
    loose, alone = Decontaminator(index, LOOSE), Decontaminator(index, ALONE)
    place = folder / "unrelated.png"
    counts = [0, 0, 0]
    for image in images:
        image.save(place, compress_level=1)
        seed = Seed("unrelated", "<image>\nWhat do you see?", images=(ImageRef(str(place)),))
        leaks = (loose.leak(seed), alone.leak(seed))
        add(counts, [1, *(leak is not None for leak in leaks)])
    return counts


def altered(rows: Sequence[Row]) -> dict[str, list[Image.Image]]:
    whole = [row.picture for row in rows]
    pieces = [ImageOps.mirror(image) for image in whole]
    for image in whole:
        width, height = image.size
        if min(width, height) >= 128:
            xs, ys = (0, width // 2, width), (0, height // 2, height)
            pieces += [
                image.crop((xs[i], ys[j], xs[i + 1], ys[j + 1])) for i in (0, 1) for j in (0, 1)
            ]
    return {"whole": whole, "mirrored, quarters": pieces}


def add(counts: list[int], more: Sequence[int]) -> None:
    counts[:] = [a + b for a, b in zip(counts, more, strict=True)]


def shown(counts: Sequence[int]) -> tuple[str, ...]:
    seeds = counts[0]
    return (str(seeds), *(f"{count} ({count / max(1, seeds):.2%})" for count in counts[1:]))


def unique(rows: Sequence[Row]) -> list[Row]:
    """One row per picture."""
    found = {sha256(row.picture.tobytes()).digest(): row for row in reversed(rows)}
    return list(reversed(found.values()))


def real_rows(path: str) -> Iterator[Row]:
    """Rows of one picture; those of several are left out, as each is planted on its own."""
    for item in read_seeds(path):
        if isinstance(item, Seed) and len(item.images) == 1:
            try:
                yield Row(item, open_image(read_bytes(item.images[0])))
            except RowError:
                continue


def demo_rows(folder: Path, count: int) -> Iterator[Row]:
    for number in range(count):
        scene = make_scene(7, number, "eval")
        picture = draw(scene)
        place = folder / f"demo-{number}.png"
        picture.save(place, compress_level=1)
        question = f"<image>\n{ask(scene, 7, number, open_share=0.0).text}"
        yield Row(Seed(f"demo-{number}", question, images=(ImageRef(str(place)),)), picture)


if __name__ == "__main__":
    main()
