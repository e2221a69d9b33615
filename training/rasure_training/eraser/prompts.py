"""The words around contexts and questions. ChatML, as `rasure_training.cases` has it."""

from __future__ import annotations

from ..cases import HEAD, TAIL

SYSTEM = HEAD[: HEAD.index("<|im_start|>user")]
USER = "<|im_start|>user\n"
ASSISTANT = "<|im_start|>assistant\n"
END = "<|im_end|>\n"


def question(text: str) -> str:
    """Behind a document."""
    return f"\n\nQuestion: {text}{TAIL}"


def turn_question(text: str) -> str:
    """Behind a conversation whose last turn has ended."""
    return f"{USER}{text}{TAIL}"


__all__ = ["ASSISTANT", "END", "HEAD", "SYSTEM", "TAIL", "USER", "question", "turn_question"]
