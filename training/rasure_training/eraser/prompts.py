"""The words around contexts and questions, in ChatML with the system text of SmolLM2-Instruct."""

from __future__ import annotations

HEAD = (
    "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
    "<|im_start|>user\nRead the following text and answer the question.\n\n"
)
TAIL = "<|im_end|>\n<|im_start|>assistant\n"
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
