"""How a head was made: what its manifest tells about photographs, models and consent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import head360

KEY = "provenance"
CONSENT = (
    "Made from pictures or words about a person. Show, share or animate it only with the consent "
    "of the person it resembles, and say that it is synthetic."
)


def provenance(
    made_by: str, sources: Sequence[Path | str], model: str, settings: Mapping[str, Any]
) -> dict[str, Any]:
    """Facts for the manifest of a fitted or edited head, under :data:`KEY`.

    Args:
        made_by: the command, such as "head360 fit".
        sources: photographs or heads it was made from; only their file names are kept.
        model: name of the base.
        settings: what was asked for, plain data.
    """
    return {
        "made_by": made_by,
        "version": head360.__version__,
        "from": [Path(source).name for source in sources],
        "model": model,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "settings": dict(settings),
        "consent": CONSENT,
    }
