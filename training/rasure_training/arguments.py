"""Values of command-line options, checked."""

from __future__ import annotations

import argparse


def positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text}: not a number above 0")
    return value


def numbers(text: str) -> list[int]:
    return [positive(item) for item in text.split(",")]


def words(text: str) -> list[str]:
    return text.split(",")


def share(text: str) -> float:
    value = float(text)
    if not 0.0 <= value <= 1.0:
        raise argparse.ArgumentTypeError(f"{text}: not a number from 0 to 1")
    return value
