# Copyright: Vigie maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Metrics in Prometheus' text format, as a process tells them of itself."""

from __future__ import annotations

import re
from dataclasses import dataclass

_SAMPLE = re.compile(r"^([A-Za-z_:][A-Za-z0-9_:]*)(?:\{(.*)\})?\s+(\S+)(?:\s+-?\d+)?$")
_LABEL = re.compile(r'([A-Za-z_][A-Za-z0-9_]*)="((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True)
class Sample:
    """One line: name, labels and value."""

    name: str
    labels: dict[str, str]
    value: float

    @property
    def base(self) -> str:
        """The name without ``_total``, which versions of some programs add or leave out."""
        return self.name.removesuffix("_total")


def samples(text: str) -> list[Sample]:
    """Return the samples; what is none is passed over."""
    found = []
    for line in text.splitlines():
        match = _SAMPLE.match(line.strip())
        if not match:
            continue
        try:
            value = float(match[3])
        except ValueError:
            continue
        found.append(Sample(match[1], dict(_LABEL.findall(match[2] or "")), value))
    return found
