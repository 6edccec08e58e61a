"""Root file systems of Debian packages, as tar files, by mmdebstrap."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vigielab.components import LAB
from vigielab.steps import Job, LabError, Step

SUITE = "bookworm"
# Nobody reads manuals in an image.
DROPPED = ("man", "info", "locale", "lintian", "bug", "doc/*")
KEPT = ("doc/*/copyright",)


@dataclass(frozen=True)
class Root:
    """A root file system.

    Attributes:
        name: of the step.
        variant: of mmdebstrap: what is there besides ``packages``.
        packages: to be installed, separated by spaces.
        hook: script in lab/roots that finishes it, called with the folder of the root and that of the files that ``needs`` made.
        needs: steps of which the hook uses the results.
    """

    name: str
    variant: str
    packages: str
    hook: str = ""
    needs: tuple[str, ...] = ()

    def step(self, architecture: str) -> Step:
        """Return the step that makes ``root.tar``."""
        hook = LAB / "roots" / self.hook

        def make(job: Job) -> None:
            command: list[str | Path] = [
                "mmdebstrap",
                f"--variant={self.variant}",
                f"--architectures={architecture}",
                f"--include={self.packages.replace(' ', ',')}",
                "--skip=output/dev",
                '--aptopt=Acquire::Retries "5"',
            ]
            command += [f"--dpkgopt=path-exclude=/usr/share/{path}" for path in DROPPED]
            command += [f"--dpkgopt=path-include=/usr/share/{path}" for path in KEPT]
            if self.hook:
                results = " ".join(f'"{job.results[need]}"' for need in self.needs)
                command.append(f'--customize-hook="{hook}" "$1" {results}')
            job.run([*command, SUITE, job.out / "root.tar"], env={"SOURCE_DATE_EPOCH": "0"})
            if not (job.out / "root.tar").stat().st_size:
                raise LabError("mmdebstrap made an empty root")

        return Step(
            name=self.name,
            make=make,
            recipe=[SUITE, architecture, self.variant, self.packages, DROPPED, KEPT],
            files=(hook,) if self.hook else (),
            needs=self.needs,
            lane="fetch",
        )
