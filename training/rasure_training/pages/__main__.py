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

from . import forgetting, page


def made(folder: Path) -> dict[Path, str]:
    """The text of each page of the folder, by its path."""
    texts = {}
    data = {}
    for path in sorted(folder.glob("*.json")):
        if found := page.read(path):
            data[path.stem] = found
            texts[path.with_suffix(".md")] = page.text_of(path.stem, found)
    if set(forgetting.PARTS) <= data.keys():
        texts[folder / "forgetting.md"] = forgetting.text_of({name: data[name]["figures"] for name in forgetting.PARTS})
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
        texts = made(args.folder)
        if args.check:
            return check(texts)
        for path, text in texts.items():
            path.write_text(text, encoding="utf-8")
        for path in sorted(args.folder.glob("*.json")):
            page.draw(path)
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
