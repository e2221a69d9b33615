"""What each erase method leaves in the cache, with gradient where an adapter is trained.

A context is read once by the frozen model. A method then takes spans out of it: a method is a list of steps joined by "+",
each of which works on the rows that the one before has left. The question is asked to what is left (`ask`), by the frozen
model again, with gradient through the rows that an adapter wrote.

  none        everything stays
  exact       what follows the first span is read again, at closed-up positions, without the spans ("clean" is the same)
  drop        the spans' rows go, all other rows and positions stay
  shift       ... and later keys are rotated to close the gap; "+shift" behind repair and bridge: before they encode
  repair:K    the K tokens after each hole are re-encoded by the frozen model, which sees every row before them;
              repair:P% takes this share of what follows, rounded up; ":windowed" behind it shows sinks and window only
  adaptive:K  as repair:K+shift (K: 16), and all other tokens behind the first hole are re-encoded too in which the words of the
              spans echo (`echoes`); ":echo=B" behind it sets the bound
  refill      the spans' rows are those of neutral text of the same length, encoded by the frozen model in their place
  steer       the spans' rows are those of their own tokens, encoded through the adapter in their place (KVEraser,
              arXiv 2606.17034); sees the first `sinks` and the last `window` rows before the span, ":full" behind it all
  bridge:K    as windowed repair, through the adapter; without ":K" as many tokens as the adapter says

For comparison, and not in the runtime, where they would cost a pass over the whole suffix; all close the gap first:
  blend:P%    this share of the suffix, those tokens whose keys and values in the second layer change most (as CacheBlend
              chooses, arXiv 2405.16444, section 4)
  most:P%     the same, by the change in all layers: what a choice by deviation can come to
  quiet:B     from each hole on, until the change in all layers has stayed below B for eight tokens
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..reference import Cache
from .lora import EraserModel, Lora

PIECE = 512  # tokens read at a time; bounds the memory of attention
# Of "adaptive", as the runtime has them:
NEAR = 16  # tokens after each hole that are re-encoded anyhow
ECHO_BOUND = 0.3
ECHO_DECAY = 0.8
WORDS_BEFORE = 8  # tokens in front of a span whose words count as its own
QUIET = 8  # tokens

METHODS = (
    "none", "exact", "drop", "shift", "repair:16", "repair:64", "repair:15%", "repair:16+shift", "adaptive", "refill",
    "steer:full", "steer", "bridge:16", "bridge:32", "bridge+shift", "steer+repair:16",
)  # fmt: skip


class MethodError(Exception):
    """No such method, or not without an adapter of its kind."""


@dataclass(frozen=True)
class Settings:
    """What an erase pass with an adapter sees, and how many tokens it re-encodes."""

    kind: str  # "steer" or "bridge"
    window: int  # last rows before the span or hole
    sinks: int  # first rows of the context
    bridge_tokens: int  # of "bridge"


@dataclass(frozen=True)
class Rows:
    """A cache with the token of each row. Never changed in place; rows may carry gradient."""

    cache: Cache
    tokens: Tensor  # int64 [m]
    next_position: int  # of the token that comes next
    # Set by the first step of a method:
    holes: tuple[int, ...] = ()  # index of the first row after each erased span
    removed: Tensor | None = None  # int64 [m]: how many rows that stood before this one have been removed
    reencoded: int = 0  # tokens that went through the model for the erase

    def __len__(self) -> int:
        return len(self.tokens)


@dataclass(frozen=True)
class Step:
    name: str
    count: int = 0
    share: float = 0.0
    bound: float = 0.0
    windowed: bool = False
    full: bool = False


CLOSING = ("adaptive", "blend", "most", "quiet")  # choose among tokens behind a closed gap


def _bound(text: str, method: str) -> float:
    try:
        bound = float(text)
    except ValueError:
        bound = 0.0
    if not 0 < bound < math.inf:
        raise MethodError(f"{method}: {text} is no bound above 0")
    return bound


def parse_method(method: str) -> list[Step]:
    return [_parse_step(text, method) for text in method.split("+")]


def _parse_step(text: str, method: str) -> Step:
    name, *options = text.split(":")
    step = Step("exact" if name == "clean" else name)
    for option in options:
        if option == "windowed" and name == "repair":
            step = replace(step, windowed=True)
        elif option == "full" and name == "steer":
            step = replace(step, full=True)
        elif name == "adaptive" and option.startswith("echo="):
            step = replace(step, bound=_bound(option.removeprefix("echo="), method))
        elif name == "quiet" and not step.bound:
            step = replace(step, bound=_bound(option, method))
        elif (
            name in ("repair", "blend", "most") and option.endswith("%") and option[:-1].isdigit() and 0 < int(option[:-1]) <= 100
        ):
            step = replace(step, share=int(option[:-1]) / 100)
        elif name in ("repair", "bridge", "adaptive") and option.isdigit():
            step = replace(step, count=int(option))
        else:
            raise MethodError(f"{method}: {option} is no option of {name}")
    if step.name not in ("none", "exact", "drop", "shift", "repair", "refill", "steer", "bridge", *CLOSING):
        raise MethodError(f"{method}: there is no method {name}")
    if step.name == "repair" and not step.count and not step.share:
        raise MethodError(f"{method}: repair needs a number of tokens or a share of the suffix")
    if step.name in ("blend", "most") and not step.share or step.name == "quiet" and not step.bound:
        raise MethodError(f"{method}: {step.name} needs {'a bound' if step.name == 'quiet' else 'a share of the suffix'}")
    if step.name == "bridge" and not options:
        step = replace(step, count=-1)  # the adapter's own
    return step


def needs_adapter(method: str) -> str | None:
    """The kind of adapter that a method needs."""
    return next((step.name for step in parse_method(method) if step.name in ("steer", "bridge")), None)


class Engine:
    """Erases spans from contexts. filler: token ids of neutral text for "refill"."""

    def __init__(
        self, model: EraserModel, settings: Settings | None = None, lora: Lora | None = None, filler: Sequence[int] = ()
    ) -> None:
        self.model = model
        self.settings = settings
        self.lora = lora
        self.filler = list(filler)

    @torch.no_grad()
    def read(self, tokens: Sequence[int] | Tensor) -> Rows:
        """The context as the frozen model reads it."""
        tokens = torch.as_tensor(tokens, dtype=torch.int64)
        cache = Cache.empty(self.model.config)
        for piece in tokens.split(PIECE):
            self.model.forward(piece, cache=cache, rows_only=True)
        return Rows(cache, tokens, len(tokens))

    def erase(self, context: Rows, spans: Sequence[tuple[int, int]], method: str) -> Rows:
        """`context`, as `read` gave it, without the spans (half-open ranges of tokens, ascending, not overlapping)."""
        rows = replace(context, removed=torch.zeros(len(context), dtype=torch.int64))
        erased = False
        steps = parse_method(method)
        closes_gap = any(step.name in ("shift", *CLOSING) for step in steps)
        for step in steps:
            if step.name == "none":
                continue
            if step.name == "exact":
                rows = self._exact(rows, spans)
            elif step.name in ("steer", "refill"):
                rows = self._rewrite(rows, spans, step)
            else:
                if not erased:
                    words = words_of(rows.tokens, spans)
                    rows = _drop(rows, spans)
                    rows = self._shift(rows) if closes_gap else rows
                if step.name == "adaptive":
                    bound = step.bound or ECHO_BOUND
                    rows = self._reencode(rows, echoes(rows.tokens, words, rows.holes, step.count or NEAR, bound))
                elif step.name in CLOSING:
                    rows = self._reencode(rows, self._deviating(rows, step))
                elif step.name not in ("drop", "shift"):
                    rows = self._reencode_after(rows, step)
            erased = True
        return rows

    def ask(self, rows: Rows, tokens: Tensor, offsets: Tensor, mask: Tensor) -> Tensor:
        """Hidden states [n, d] of further tokens after `rows`, which are left as they are.

        offsets: int64 [n], positions from the next one on; mask: bool [n, n], which of each other they see.
        """
        cache = Cache(list(rows.cache.k), list(rows.cache.v), rows.cache.positions)
        visible = torch.cat((torch.ones(len(tokens), len(rows), dtype=torch.bool), mask), dim=1)
        return self.model.forward(tokens, rows.next_position + offsets, cache, visible)

    def _adapter(self, kind: str) -> tuple[Lora, Settings]:
        if self.lora is None or self.settings is None or self.settings.kind != kind:
            raise MethodError(f"{kind} needs an adapter of this kind")
        return self.lora, self.settings

    def _seen(self, n_before: int, windowed: bool) -> Tensor:
        """Indices of the rows before row n_before that an erase pass sees."""
        if not windowed:
            return torch.arange(n_before)
        if self.settings is None:
            raise MethodError("a windowed pass needs sinks and a window")
        if self.settings.window == 0:  # everything, as an adapter file says it
            return torch.arange(n_before)
        first = min(self.settings.sinks, n_before)
        last = max(first, n_before - self.settings.window)
        return torch.cat((torch.arange(first), torch.arange(last, n_before)))

    def _encode(self, rows: Rows, where: Tensor, tokens: Tensor, seen: Tensor, lora: Lora | None) -> Rows:
        """`rows` with the rows at the ascending indices `where` replaced by those of `tokens`, at the positions of the old ones.
        The pass sees the rows `seen` and each other, causally."""
        window = Cache([k[:, seen] for k in rows.cache.k], [v[:, seen] for v in rows.cache.v], rows.cache.positions[seen])
        visible = torch.cat((seen, where))[None, :] <= where[:, None]
        with self.model.adapted(lora):
            self.model.forward(tokens, rows.cache.positions[where], window, visible, rows_only=True)

        def put(old: Tensor, new: Tensor) -> Tensor:
            return old.index_copy(1, where, new[:, len(seen) :])

        k = [put(*pair) for pair in zip(rows.cache.k, window.k, strict=True)]
        v = [put(*pair) for pair in zip(rows.cache.v, window.v, strict=True)]
        return replace(rows, cache=Cache(k, v, rows.cache.positions), reencoded=rows.reencoded + len(tokens))

    @torch.no_grad()
    def _exact(self, rows: Rows, spans: Sequence[tuple[int, int]]) -> Rows:
        kept = _kept(len(rows), spans)
        begin = spans[0][0]
        cache = Cache([k[:, :begin] for k in rows.cache.k], [v[:, :begin] for v in rows.cache.v], rows.cache.positions[:begin])
        tokens = rows.tokens[kept]
        for piece in tokens[begin:].split(PIECE):
            if len(piece):
                first = len(cache)
                self.model.forward(piece, torch.arange(first, first + len(piece)), cache, rows_only=True)
        return Rows(
            cache, tokens, len(tokens), removed=torch.zeros(len(tokens), dtype=torch.int64), reencoded=len(tokens) - begin
        )

    def _shift(self, rows: Rows) -> Rows:
        """Closes the gaps: every row moves by what was removed before it."""
        by = -rows.removed
        k = [self.model.rotate_keys(layer, k, by) for layer, k in enumerate(rows.cache.k)]
        positions = rows.cache.positions + by
        return replace(
            rows, cache=Cache(k, rows.cache.v, positions), next_position=len(rows), removed=torch.zeros_like(rows.removed)
        )

    def _reencode_after(self, rows: Rows, step: Step) -> Rows:
        """repair and bridge: the tokens after each hole, from left to right. A token is re-encoded once."""
        lora = None
        count = step.count
        if step.name == "bridge":
            lora, settings = self._adapter("bridge")
            count = settings.bridge_tokens if count < 0 else count
        done = 0
        for hole in rows.holes:
            suffix = len(rows) - hole
            n = min(suffix, math.ceil(step.share * suffix - 1e-3) if step.share else count)
            begin, end = max(hole, done), hole + n
            if begin >= end:
                continue
            seen = self._seen(begin, step.windowed or step.name == "bridge")
            rows = self._encode(rows, torch.arange(begin, end), rows.tokens[begin:end], seen, lora)
            done = end
        return rows

    def _reencode(self, rows: Rows, where: Tensor) -> Rows:
        """adaptive: tokens that need not follow each other; they see everything before them."""
        if len(where) == 0:
            return rows
        others = torch.ones(len(rows), dtype=torch.bool)
        others[where] = False
        return self._encode(rows, where, rows.tokens[where], others.nonzero()[:, 0], None)

    def _deviating(self, rows: Rows, step: Step) -> Tensor:
        """Indices of the tokens that blend, most and quiet take."""
        first = rows.holes[0] if rows.holes else len(rows)
        suffix = torch.arange(first, len(rows))
        if len(suffix) == 0:
            return suffix
        fresh = self._reencode(rows, suffix)
        change = torch.stack([_relative(a[:, first:], b[:, first:]) for a, b in zip(
            fresh.cache.k + fresh.cache.v, rows.cache.k + rows.cache.v, strict=True)])  # fmt: skip
        n_layers = len(rows.cache.k)
        by_token = (change[1] + change[n_layers + 1]) / 2 if step.name == "blend" else change.mean(0)
        if step.name != "quiet":
            n = math.ceil(step.share * len(suffix) - 1e-3)
            return suffix[by_token.topk(n).indices.sort().values]
        taken: set[int] = set()
        for hole in rows.holes:
            calm = 0
            for i in range(hole, len(rows)):
                calm = calm + 1 if by_token[i - first] < step.bound else 0
                if calm == QUIET:
                    break
                taken.add(i)
        return torch.tensor(sorted(taken), dtype=torch.int64)

    def _rewrite(self, rows: Rows, spans: Sequence[tuple[int, int]], step: Step) -> Rows:
        """steer and refill: the rows of the spans, from left to right. A span longer than a piece is encoded piece by piece."""
        lora = self._adapter("steer")[0] if step.name == "steer" else None
        for begin, end in spans:
            tokens = rows.tokens[begin:end]
            if step.name == "refill":
                if not self.filler:
                    raise MethodError("refill needs a filler")
                tokens = torch.tensor((self.filler * (len(tokens) // len(self.filler) + 1))[: len(tokens)])
            seen = self._seen(begin, windowed=step.name == "steer" and not step.full)
            rows = self._encode(rows, torch.arange(begin, end), tokens, seen, lora)
        return replace(rows, holes=tuple(end for _, end in spans))


def words_of(tokens: Tensor, spans: Sequence[tuple[int, int]]) -> set[int]:
    return {int(token) for begin, end in spans for token in tokens[max(0, begin - WORDS_BEFORE) : end]}


def echo_of(left: Sequence[int], words: set[int], first: int) -> list[float]:
    """The echo of each token that is left, from index `first` on: the sum over those from there up to it that are among the erased
    `words`, each 1 / its count in all that is left, falling by ECHO_DECAY from token to token."""
    counts = Counter(token for token in left if token in words)
    found, echo = [], 0.0
    for token in left[first:]:
        echo = echo * ECHO_DECAY + (1 / counts[token] if token in words else 0.0)
        found.append(echo)
    return found


def echoes(tokens: Tensor, words: set[int], holes: Sequence[int], near: int, bound: float = ECHO_BOUND) -> Tensor:
    """Indices of what "adaptive" re-encodes of the tokens that are left: the first `near` after each hole, and those whose echo
    is `bound` or more."""
    first = holes[0] if holes else len(tokens)
    taken = [i for i, echo in enumerate(echo_of(tokens.tolist(), words, first), start=first)
             if echo >= bound or any(hole <= i < hole + near for hole in holes)]  # fmt: skip
    return torch.tensor(taken, dtype=torch.int64)


def _relative(new: Tensor, old: Tensor) -> Tensor:
    """How far rows [heads, n, d] have moved, by their length: [n], the mean over heads."""
    return ((new - old).norm(dim=-1) / old.norm(dim=-1)).mean(0).float()


def _kept(n: int, spans: Sequence[tuple[int, int]]) -> Tensor:
    """Indices of the tokens outside the spans."""
    mask = torch.ones(n, dtype=torch.bool)
    for begin, end in spans:
        mask[begin:end] = False
    return mask.nonzero()[:, 0]


def holes_of(spans: Sequence[tuple[int, int]]) -> list[int]:
    """Where the tokens behind each span come to lie in the list of those that stay."""
    holes, removed = [], 0
    for begin, end in spans:
        holes.append(begin - removed)
        removed += end - begin
    return holes


def _drop(rows: Rows, spans: Sequence[tuple[int, int]]) -> Rows:
    kept = _kept(len(rows), spans)
    cache = Cache([k[:, kept] for k in rows.cache.k], [v[:, kept] for v in rows.cache.v], rows.cache.positions[kept])
    removed = kept - torch.arange(len(kept))
    return replace(rows, cache=cache, tokens=rows.tokens[kept], holes=tuple(dict.fromkeys(holes_of(spans))), removed=removed)
