# Copyright: Vigie maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

"""A name for content: the same files give the same hash, whoever checked them out, when and where."""

from __future__ import annotations

import hashlib
from pathlib import Path

from ansible_collections.vigie.observability.plugins.module_utils.verdict import CheckError


def selected_files(root: Path, patterns: list[str]) -> list[str]:
    """Return the files below a folder that match a pattern, as sorted relative paths.

    Args:
        root: the folder.
        patterns: globs relative to it, such as ``requirements.txt`` or ``pkg/**/*.py``.

    Raises:
        CheckError: ``folder_missing``, ``nothing_matches`` for a pattern without a file, ``not_a_file`` for a link or another
            thing whose content isn't in the folder, ``permission_denied``, ``bad_option``.
    """
    if not root.is_dir():
        raise CheckError("folder_missing", f"path={root} is no folder; look with 'ls -ld {root}'.")
    found: set[str] = set()
    for pattern in patterns:
        if not pattern or Path(pattern).is_absolute() or ".." in Path(pattern).parts:
            raise CheckError("bad_option", f"patterns holds {pattern!r}; give globs below path, such as '*.py'.")
        matches = [match for match in root.glob(pattern) if match.is_symlink() or not match.is_dir()]
        if not matches:
            raise CheckError("nothing_matches", f"No file below {root} matches {pattern}; correct path or patterns.")
        for match in matches:
            name = match.relative_to(root).as_posix()
            if not match.is_file() or any(part.is_symlink() for part in (match, *_parents(match, root))):
                raise CheckError(
                    "not_a_file", f"{match} is a link or no regular file; put the file itself there ('ls -ld {match}')."
                )
            found.add(name)
    return sorted(found)


def _parents(path: Path, root: Path) -> list[Path]:
    return [parent for parent in path.parents if root in parent.parents]


def content_hash(root: Path, files: list[str], extra: list[str]) -> str:
    """Return the SHA-256 over names and contents of files and over further texts, 64 hex digits.

    Times, owners, permissions and the order of the file system don't matter. Every part is preceded by its length, so that no
    two different sets give the same input.

    Args:
        root: the folder.
        files: paths relative to it.
        extra: texts that count besides, in this order.

    Raises:
        CheckError: ``permission_denied``, ``folder_missing`` when a file vanished meanwhile.
    """
    digest = hashlib.sha256()

    def add(part: bytes) -> None:
        digest.update(b"%d:" % len(part))
        digest.update(part)

    add(b"%d" % len(files))
    for name in sorted(files):
        path = root / name
        try:
            content = path.read_bytes()
        except PermissionError as error:
            raise CheckError(
                "permission_denied", f"{path} can't be read; check owner and mode with 'ls -ld {path}'."
            ) from error
        except OSError as error:
            raise CheckError("folder_missing", f"{path} can't be read ({error.strerror}); try again.") from error
        add(name.encode())
        add(content)
    for text in extra:
        add(text.encode())
    return digest.hexdigest()
