#!/usr/bin/python3
"""rivals_report.py FILE: the report on what ./dev bench rivals measured (build/bench/rivals.json).

Prints the medians, then for every collective, size and rival PASS, or RED with the reason: we must be
ahead of each. A ratio is the median over rounds of the rival's time by ours, of the same round; a
round's time is the median of its calls, a call's that of its slowest rank. Exit code: 0; 1 when a
line is RED; 2 when the file is unusable, or an idle library kept the cores from the one measured.
"""
import json
import statistics
import sys

MIB = 1 << 20
# A library that is not measured should be asleep. Of one core, averaged over the run:
IDLE_CPU = 0.05


class Results:
    """The raw samples, by collective, size and library. The first library is ours."""

    def __init__(self, data):
        self.data, self.rounds_wanted = data, data["rounds"]
        self.libraries = {library["name"]: library for library in data["libraries"]}
        self.names = list(self.libraries)
        self.ours, self.rivals = self.names[0], self.names[1:]
        self.cases = [(collective, size) for collective in data["collectives"] for size in data["sizes"]]
        self.wrong = {(entry["collective"], entry["bytes"], entry["library"]): entry["wrong"]
                      for entry in data["checks"]}
        self.samples = {}
        for sample in data["samples"]:
            key = (sample["collective"], sample["bytes"], sample["library"])
            self.samples.setdefault(key, {})[sample["round"]] = sample

    def rounds(self, case, name):
        """{round: seconds}."""
        found = self.samples.get((*case, name), {})
        return {number: statistics.median(sample["seconds"]) for number, sample in found.items()}

    def median(self, case, name):
        """Seconds, or None without a sample."""
        rounds = self.rounds(case, name)
        return statistics.median(rounds.values()) if rounds else None

    def ratios(self, case, rival):
        """The rival's time by ours, of each round in which both were measured."""
        ours, theirs = self.rounds(case, self.ours), self.rounds(case, rival)
        return [theirs[number] / ours[number] for number in sorted(theirs) if number in ours]

    def ratio(self, case, rival):
        """Their median, or None when there is no such round."""
        ratios = self.ratios(case, rival)
        return statistics.median(ratios) if ratios else None

    def wire(self, case, name):
        """Bytes that the busiest node sent per call, or None."""
        found = self.samples.get((*case, name), {}).values()
        sent = [max(node[0] for node in sample["wire"]) for sample in found]
        return statistics.median(sent) if sent else None

    def trouble(self, case, name):
        """Why this library's numbers do not count, or None."""
        failure = self.libraries[name]["failure"]
        if len(self.rounds(case, name)) < self.rounds_wanted and failure:
            return f"{name}: {failure}"
        wrong = self.wrong.get((*case, name))
        if wrong is None:
            return f"{name}: its result was not checked"
        if wrong:
            return f"{name}: {wrong} elements of its result are wrong"
        if len(self.rounds(case, name)) < self.rounds_wanted:
            return f"{name}: only {len(self.rounds(case, name))} of {self.rounds_wanted} rounds"
        return None


class Verdict:
    """One collective and size beside one rival."""

    def __init__(self, results, case, rival):
        self.case, self.rival = case, rival
        self.reason = results.trouble(case, results.ours) or results.trouble(case, rival)
        self.ratios, self.ratio = results.ratios(case, rival), results.ratio(case, rival)
        self.passed = self.reason is None and self.ratio > 1

    def line(self):
        collective, size = self.case
        seen = self.reason or f"{self.ratio:.2f} (rounds {min(self.ratios):.2f} to {max(self.ratios):.2f})"
        return f"{'PASS' if self.passed else 'RED':<8}{collective}, {mebibytes(size)}: times as fast as " \
               f"{self.rival} > 1: {seen}"


def mebibytes(size):
    return f"{size / MIB:g} MiB"


def verdicts(results):
    return [Verdict(results, case, rival) for case in results.cases for rival in results.rivals]


def noisy(results):
    return [(name, library["idle_cpu"]) for name, library in results.libraries.items()
            if library["idle_cpu"] > IDLE_CPU]


def summary(results):
    """What the JSON says beside the samples, one row per collective, size and library."""
    return [{"collective": case[0], "bytes": case[1], "library": name,
             "median_seconds": results.median(case, name), "wire_bytes_per_node": results.wire(case, name),
             "ratio_to_ours": None if name == results.ours else results.ratio(case, name)}
            for case in results.cases for name in results.names]


def cell(results, case, name):
    seconds, wire = results.median(case, name), results.wire(case, name)
    if seconds is None:
        return f"{'-':>26}"
    ratio = None if name == results.ours else results.ratio(case, name)
    return f"{1e3 * seconds:>9.1f}{wire / MIB:>9.1f}" + (f"{ratio:>7.2f}x" if ratio else f"{'':>8}")


def print_table(results):
    data = results.data
    print(f"{data['topology']} ranks on a pretend cluster, {data['rate']}, {data['type']}; {data['cpu']}, "
          f"{data['cores']} cores; {data['rounds']} rounds, {data['iterations']} calls each; {data['date']}, "
          f"commit {data['commit']}")
    for name, library in results.libraries.items():
        state = library["failure"] and f"RED: {library['failure']}"
        print(f"   {name}: {state or library['version']}")
    print("per library: milliseconds, MiB that a node sends, times as long as ours; medians")
    print(f"{'':<25}" + "".join(f"{name:>26}" for name in results.names))
    for case in results.cases:
        print(f"{case[0]:<15}{mebibytes(case[1]):>10}"
              + "".join(cell(results, case, name) for name in results.names))


def report(data):
    """Prints all of it and returns the exit code."""
    results = Results(data)
    print_table(results)
    print()
    judged = verdicts(results)
    for verdict in judged:
        print(verdict.line())
    loud = noisy(results)
    for name, part in loud:
        print(f"BROKEN  {name} used {part:.2f} of a core while others were measured, at most {IDLE_CPU:g}: "
              "no ratio counts")
    if loud:
        return 2
    return 0 if judged and all(verdict.passed for verdict in judged) else 1


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    try:
        with open(sys.argv[1]) as file:
            data = json.load(file)
        code = report(data)
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        print(f"rivals_report: {sys.argv[1]} is not the output of ./dev bench rivals: {error!r}", file=sys.stderr)
        code = 2
    sys.exit(code)


if __name__ == "__main__":
    main()
