"""Real text to train on: the sources of Python's standard library, as numbers of words."""
import collections
import functools
import glob
import os
import re
import sysconfig

import torch

WORDS, LENGTH = 2048, 32
HELD_OUT = 16  # every so manieth file is for validation


def words_of(path):
    with open(path, encoding="utf-8", errors="replace") as file:
        return re.findall(r"\w+|[^\S\n]+|\n|[^\w\s]", file.read())


@functools.cache
def corpus():
    """(training, validation): the WORDS - 1 most frequent words have numbers of their own, from 1."""
    paths = sorted(glob.glob(os.path.join(sysconfig.get_path("stdlib"), "*.py")))
    files = [words_of(path) for path in paths]
    counted = collections.Counter(word for words in files for word in words)
    ranked = sorted(counted, key=lambda word: (-counted[word], word))[:WORDS - 1]
    numbers = {word: number for number, word in enumerate(ranked, 1)}
    halves = [], []
    for place, words in enumerate(files):
        halves[place % HELD_OUT == 0].extend(numbers.get(word, 0) for word in words)
    return tuple(map(torch.tensor, halves))


def windows(text, firsts):
    """A row of LENGTH + 1 words for each place where one begins."""
    return text[firsts[:, None] + torch.arange(LENGTH + 1)]


def batches(steps, batch, rank, ranks, seed):
    """For each step this rank's share of a batch that does not depend on how it is shared."""
    generator = torch.Generator().manual_seed(4321 + seed)
    text, _ = corpus()
    for _ in range(steps):
        firsts = torch.randint(len(text) - LENGTH, (ranks * batch,), generator=generator)
        yield windows(text, firsts[rank * batch:(rank + 1) * batch])


def validation(count, batch, rank, ranks):
    """This rank's share of `count` windows that all runs are judged by, in batches."""
    _, text = corpus()
    firsts = torch.linspace(0, len(text) - LENGTH - 1, count).long()
    return windows(text, firsts[rank::ranks]).split(batch)
