"""An audit of seeds: every truth checked, counted by source and by what it is compared as."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from mmpr_builder.audit.doubts import check_seed
from mmpr_builder.audit.finding import Finding, Scorer
from mmpr_builder.audit.truths import kind_of_seed
from mmpr_builder.config import Config
from mmpr_builder.pairing import scorer_for
from mmpr_builder.prompts import Templates
from mmpr_builder.records import Drop, Seed


@dataclass
class Row:
    """The seeds of one source that are compared as one kind. Reasons count seeds, not truths."""

    seeds: int = 0
    unusable: Counter[str] = field(default_factory=Counter)
    doubtful: Counter[str] = field(default_factory=Counter)
    clean: int = 0
    """Seeds about which nothing was found."""


@dataclass
class SeedAudit:
    """What was found; `rows` by (source, kind)."""

    without_truth: int = 0
    unread: Counter[str] = field(default_factory=Counter)
    """Input rows that are no seeds, by reason."""
    rows: dict[tuple[str, str], Row] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    @property
    def seeds(self) -> int:
        """Seeds with a truth."""
        return sum(row.seeds for row in self.rows.values())

    def add(self, seed: Seed, kind: str, found: list[Finding]) -> None:
        row = self.rows.setdefault((seed.source, kind), Row())
        row.seeds += 1
        row.clean += not found
        row.unusable.update({one.reason for one in found if one.unusable})
        row.doubtful.update({one.reason for one in found if not one.unusable})
        self.findings += found

    def to_json(self) -> dict[str, Any]:
        """Counts and the complete list of findings, as plain values."""
        return {
            "seeds_with_truth": self.seeds,
            "seeds_without_truth": self.without_truth,
            "unread": dict(sorted(self.unread.items())),
            "rows": [
                {
                    "source": source,
                    "kind": kind,
                    "seeds": row.seeds,
                    "clean": row.clean,
                    "unusable": dict(sorted(row.unusable.items())),
                    "doubtful": dict(sorted(row.doubtful.items())),
                }
                for (source, kind), row in sorted(self.rows.items())
            ],
            "findings": [{**asdict(one), "remedy": one.remedy} for one in self.findings],
        }


def audit_seeds(
    items: Iterable[Seed | Drop], config: Config, templates: Templates, judge: Scorer
) -> SeedAudit:
    """Check the truths of all seeds as a build with this config would score them."""
    audit = SeedAudit()
    for item in items:
        if isinstance(item, Drop):
            audit.unread[item.reason] += 1
        elif not item.has_truth:
            audit.without_truth += 1
        else:
            scorer = scorer_for(item, config)
            template = templates.pick(item)
            found = check_seed(
                item, judge, scorer=scorer, style=template.style, language=template.language
            )
            audit.add(item, kind_of_seed(item, scorer), found)
    return audit
