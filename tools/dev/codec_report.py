#!/usr/bin/python3
"""codec_report.py FILE: the report on what perf/codec_bench measured (build/bench/codecs.json).

Prints every kernel's speed in GB/s of the tensor, as a fraction of the ceiling of its bytes and of
memcpy, then the gates, each PASS, RED or SKIPPED with the numbers seen. All ratios are medians over
rounds of what one round measured side by side. Exit code: 0; 1 when a gate is RED; 2 when the file
is unusable or a ceiling is too slow to judge by.
"""
import json
import statistics
import sys

PLACES = {"in_cache": "in cache", "out_of_cache": "out of cache"}
# A ceiling moves at least so much of memcpy's bytes per second, or it is no ceiling.
CEILING_OF_MEMCPY = 0.8
WIDE, NARROW = ("fp32",), ("bf16", "fp16")


class Comparison:
    """One benchmark of the file: the seconds per call of each contender, round by round."""

    def __init__(self, name):
        self.place, self.operation, self.codec, self.type, self.sources = name.split("/")[:5]
        self.rounds = []

    def label(self):
        words = [self.operation, self.codec, self.type]
        return " ".join(words + ([f"k={self.sources}"] if self.sources != "1" else []))

    def constant(self, name):
        return self.rounds[0][name]

    def names(self, prefix):
        return [name for name in self.rounds[0] if name.startswith(prefix)]

    def seconds(self, name):
        return statistics.median(entry[name] for entry in self.rounds)

    def speed(self, name):
        """GB/s of the tensor's side."""
        return self.constant("tensor_bytes") / self.seconds(name) / 1e9

    def ratios(self, name, other):
        """How many times as fast as `other`, per round."""
        return [entry[other] / entry[name] for entry in self.rounds]

    def ratio(self, name, other):
        return statistics.median(self.ratios(name, other))

    def fastest(self, prefix):
        return min(self.names(prefix), key=self.seconds)

    def ceiling_of_memcpy(self):
        """The ceiling's bytes per second beside memcpy's, read and written. In cache, where writing
        is slower than reading, a ceiling that mostly writes is held to the bytes memcpy writes."""
        faster = self.ratio(self.fastest("ceiling_"), "memcpy")
        tensor = self.constant("tensor_bytes")
        moved = faster * self.constant("moved_bytes") / (2 * tensor)
        written = faster * self.constant("written_bytes") / tensor
        return max(moved, written) if self.place == "in_cache" else moved


class Results:
    def __init__(self, data):
        self.context = data["context"]
        self.rows = self.context["rows"].split()
        comparisons = {}
        for entry in data["benchmarks"]:
            if entry["run_type"] == "iteration":
                name = entry["name"]
                comparisons.setdefault(name, Comparison(name)).rounds.append(entry)
        self.comparisons = list(comparisons.values())

    def best(self):
        return "row_" + self.rows[-1]

    def select(self, place, operation=None, types=None):
        return [each for each in self.comparisons if each.place == place
                and operation in (None, each.operation) and (types is None or each.type in types)]


class Gate:
    """A demand on numbers: (label, number) pairs. Without numbers it is SKIPPED for `reason`."""

    def __init__(self, text, least, numbers, reason="not measured in this run", beyond=False):
        self.text, self.least, self.numbers, self.reason, self.beyond = text, least, numbers, reason, beyond

    def status(self):
        if not self.numbers:
            return "SKIPPED"
        enough = all(number > self.least if self.beyond else number >= self.least
                     for _, number in self.numbers)
        return "PASS" if enough else "RED"

    def line(self):
        seen = ", ".join(f"{label} {number:.2f}" for label, number in self.numbers) or self.reason
        return f"{self.status():<8}{self.text} {'>' if self.beyond else '>='} {self.least:g}: {seen}"


def ceiling_gates(results):
    """Fractions of the ceiling, from fp32 tensors out of cache."""
    for operation, least in (("encode", 0.75), ("decode", 0.95)):
        chosen = results.select("out_of_cache", operation, WIDE)
        yield Gate(f"out of cache, fp32: {operation}, of its ceiling", least,
                   [(each.codec, each.ratio(results.best(), each.fastest("ceiling_"))) for each in chosen])


def memcpy_gates(results):
    """Fractions of memcpy, from fp32 tensors in cache, where there is AVX-512."""
    row = "avx512"
    has_row = row in results.rows
    reason = "not measured in this run" if has_row else f"this CPU or build has no {row} row"
    for operation, least in (("encode", 0.33), ("decode", 1.0)):
        chosen = results.select("in_cache", operation, WIDE) if has_row else []
        yield Gate(f"in cache, fp32, {row}: {operation}, of memcpy", least,
                   [(each.codec, each.ratio("row_" + row, "memcpy")) for each in chosen], reason)


def type_gates(results):
    """bf16 and fp16 tensors beside fp32 ones, in elements per second."""
    for place, operation, least in (("in_cache", "encode", 0.6), ("in_cache", "decode", 0.3),
                                    ("out_of_cache", "encode", 0.6), ("out_of_cache", "decode", 0.6)):
        chosen = results.select(place, operation, NARROW)
        yield Gate(f"{PLACES[place]}: {operation} of 16-bit tensors, elements/s of fp32's", least,
                   [(f"{each.codec} {each.type}", each.ratio(results.best(), "fp32")) for each in chosen])


def peer_gates(results):
    """Ahead of other people's quantizers that have scales as fine as ours, or nearly."""
    missing = results.context["missing_peers"]
    for peer in ("ggml", "FBGEMM"):
        reason = next((each for each in missing.split("; ") if each.startswith(peer)),
                      missing or "not measured in this run")
        numbers = []
        for each in results.select("peers"):
            names = each.names("peer " + peer)
            if names:
                fastest = min(names, key=each.seconds)
                numbers.append((f"{each.operation} {each.codec}", each.ratio(results.best(), fastest)))
        yield Gate(f"in cache: times as fast as {peer}", 1.0, numbers, reason, beyond=True)


def all_gates(results):
    return [*ceiling_gates(results), *memcpy_gates(results), *type_gates(results), *peer_gates(results)]


def broken_ceilings(results):
    judged = [each for place in PLACES for each in results.select(place)]
    return [each for each in judged if each.ceiling_of_memcpy() < CEILING_OF_MEMCPY]


def spread(values):
    """The middle half of the values, as a part of their median."""
    low, _, high = statistics.quantiles(values, n=4) if len(values) > 1 else (0, 0, 0)
    return (high - low) / statistics.median(values)


def print_kernels(results, place):
    chosen = results.select(place)
    if not chosen:
        return
    elems = int(results.context[place + "_elems"])
    rows = chosen[0].names("row_")
    rows.sort(key=lambda row: results.rows.index(row[4:]))
    print(f"\n{PLACES[place]}, calls of {elems} elements: GB/s of the tensor")
    columns = [row[4:] for row in rows] + ["ceiling", "memcpy", "of ceiling", "spread", "of memcpy"]
    print(f"{'':<26}" + "".join(f"{column:>11}" for column in columns))
    for each in chosen:
        ceiling = each.fastest("ceiling_")
        speeds = [each.speed(name) for name in (*rows, ceiling, "memcpy")]
        ratios = each.ratios(results.best(), ceiling)
        print(f"{each.label():<26}" + "".join(f"{speed:>11.1f}" for speed in speeds)
              + f"{statistics.median(ratios):>11.2f}{100 * spread(ratios):>10.0f}%"
              + f"{each.ratio(results.best(), 'memcpy'):>11.2f}")


def print_peers(results):
    chosen = results.select("peers")
    if not chosen:
        return
    print("\nother people's quantizers, in cache: GB/s of fp32, and how many times as fast we are\n"
          "(those with one scale per 2048 elements, which are far less accurate, are for information)")
    for each in chosen:
        print(f"{each.label()}: ours {each.speed(results.best()):.1f}")
        for name in sorted(each.names("peer ") + each.names("coarse "), key=each.seconds):
            print(f"    {name.partition(' ')[2]:<32}{each.speed(name):>7.1f}"
                  f"{each.ratio(results.best(), name):>8.2f}x")


def report(data):
    """Prints all of it and returns the exit code."""
    results = Results(data)
    context = results.context
    print(f"one thread on core {context['core']}, huge pages: {context['huge_pages']}; out of cache walks "
          f"through {int(context['out_of_cache_bytes']) >> 20} MiB; fractions are the {results.rows[-1]} row's, "
          "of the faster of plain and streaming stores")
    for place in PLACES:
        print_kernels(results, place)
    print_peers(results)
    print()
    gates = all_gates(results)
    for gate in gates:
        print(gate.line())
    broken = broken_ceilings(results)
    for each in broken:
        print(f"BROKEN  the ceiling of {each.label()} {PLACES[each.place]} moves {each.ceiling_of_memcpy():.2f} "
              f"of memcpy's bytes per second, at least {CEILING_OF_MEMCPY:g}: no fraction of it counts")
    if broken:
        return 2
    return 1 if any(gate.status() == "RED" for gate in gates) else 0


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    try:
        with open(sys.argv[1]) as file:
            data = json.load(file)
        code = report(data)
    except (OSError, ValueError, KeyError, IndexError) as error:
        print(f"codec_report: {sys.argv[1]} is not codec_bench's output: {error!r}", file=sys.stderr)
        code = 2
    sys.exit(code)


if __name__ == "__main__":
    main()
