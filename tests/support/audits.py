"""What an audit found, by list and kind."""

from __future__ import annotations

from collections.abc import Sequence

from spillover.checks.audit import Audited
from spillover.checks.defects import Defect


def defects(found: Sequence[Audited], name: str, kind: str, against: str = "") -> list[Defect]:
    """The defects of one kind in the list of this name; `against`: with the list of that name."""
    listed = [defect for audited in found if audited.rows.name == name for defect in audited.defects]
    return [defect for defect in listed if defect.kind == kind and against in ("", defect.against)]
