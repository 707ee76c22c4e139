"""Stage 1: seeds from JSON, CSV, Parquet, archives, Hugging Face data sets and folders of these.

    {"image": "1.png", "question": "Find y.\\nChoices:\\n(A) 5\\n(B) 10", "answer": "B"}
      -> Seed(id=…, question="<image>\\nFind y.…", images=(ImageRef("/data/1.png"),),
              answers=("B",), choices=("5", "10"), source="geometry3k", origin="geometry3k.jsonl:1")

Every row becomes exactly one `Seed` or one `Drop` with the reason; blank lines are no rows. Field
names that are understood: `roles.ALIASES`. Nothing is held but the row at hand; for a whole build
two hashes and an id per row go to disk (to keep ids unique, and to find rows that ask the same).
"""

from mmpr_builder.seeds.reading import (
    language_of as language_of,
    read_seeds as read_seeds,
    read_source as read_source,
)
from mmpr_builder.seeds.sources import (
    Taken as Taken,
    asked as asked,
    check_sources as check_sources,
    columns_of as columns_of,
    commits as commits,
    fingerprint as fingerprint,
    read_sources as read_sources,
    refuse_forbidden as refuse_forbidden,
)
