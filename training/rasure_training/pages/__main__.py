"""Makes the pages of a folder again from their figures, and with --check says which are not what their figures make.

    python -m rasure_training.pages docs [--check]

Each JSON file of a folder that names its page gives that page and its picture; leaks, probes, dependents and many_erases give
forgetting.md besides. Pages need the standard library alone, pictures matplotlib; --check leaves pictures out, for what draws them
changes from version to version.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ..files import Row
from . import forgetting, page


def read_all(folder: Path) -> dict[str, Row]:
    """What is of a page, by the name of its file."""
    return {path.stem: data for path in sorted(folder.glob("*.json")) if (data := page.read(path))}


def texts_of(folder: Path, known: dict[str, Row]) -> dict[Path, str]:
    """Of each page of the folder, by its path."""
    texts = {folder / f"{name}.md": page.text_of(name, data) for name, data in known.items()}
    if set(forgetting.PARTS) <= known.keys():
        texts[folder / "forgetting.md"] = forgetting.text_of(known)
    return texts


def check(texts: dict[Path, str]) -> int:
    other = [path for path, text in texts.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    for path in other:
        print(f"pages: {path} is not what its figures make; see --help", file=sys.stderr)
    print(f"{len(texts) - len(other)} of {len(texts)} pages are what their figures make")
    return 1 if other or not texts else 0


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="rasure_training.pages", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("--check", action="store_true", help="write nothing; fail where a page is another")
    args = parser.parse_args()
    try:
        known = read_all(args.folder)
        texts = texts_of(args.folder, known)
        if args.check:
            return check(texts)
        for path, text in texts.items():
            path.write_text(text, encoding="utf-8")
        for name, data in known.items():
            page.draw(data, args.folder / f"{name}.svg")
    except (OSError, ValueError, KeyError) as error:
        print(f"pages: {error}", file=sys.stderr)
        return 1
    except ImportError as error:
        print(f"pages: wrote {len(texts)} pages, but no pictures: {error}", file=sys.stderr)
        return 1
    print(f"wrote {len(texts)} pages to {args.folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
