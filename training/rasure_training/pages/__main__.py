"""Makes the pages of a folder again from their figures, and with --check says which are not what their figures make.

    python -m rasure_training.pages docs [--check]

Each JSON file of a folder that names its page gives that page and its picture; leaks, probes, dependents and many_erases give
forgetting.md besides. What other pages of the folder, and README.md beside it, quote of the erasers' reports is written there,
between markers. Pages need the standard library alone, pictures matplotlib; --check leaves pictures out, for what draws them changes
from version to version.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from .. import markers
from ..files import Row
from . import forgetting, page, quoted


def texts_of(folder: Path, pages: dict[str, Row]) -> dict[Path, str]:
    """Of each page that is made of figures alone, by its path."""
    texts = {folder / f"{name}.md": page.text_of(name, data) for name, data in pages.items()}
    if set(forgetting.PARTS) <= pages.keys():
        texts[folder / "forgetting.md"] = forgetting.text_of(pages)
    return texts


def quoting_texts_of(folder: Path, reports: dict[str, Row]) -> dict[Path, str]:
    """Of each page that quotes one of the reports, by its path."""
    parts = {part: lines for name, data in reports.items() for part, lines in quoted.parts_of(name, data).items()}
    found = {path: markers.filled(path, parts) for path in (*folder.glob("*.md"), *folder.parent.glob("README.md"))}
    return {path: text for path, text in found.items() if text is not None}


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
        known = {path.stem: page.read(path) for path in sorted(args.folder.glob("*.json"))}
        pages = {name: data for name, data in known.items() if "page" in data}
        texts = texts_of(args.folder, pages)
        texts |= quoting_texts_of(args.folder, {name: data for name, data in known.items() if "kinds" in data})
        if args.check:
            return check(texts)
        for path, text in texts.items():
            path.write_text(text, encoding="utf-8")
        for name, data in pages.items():
            page.draw(data, args.folder / f"{name}.svg")
    except (OSError, ValueError, KeyError, markers.MarkersError) as error:
        print(f"pages: {error}", file=sys.stderr)
        return 1
    except ImportError as error:
        print(f"pages: wrote {len(texts)} pages, but no pictures: {error}", file=sys.stderr)
        return 1
    print(f"wrote {len(texts)} pages to {args.folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
