"""The demo's table and its gates. A gate that is not met is RED, and shown like all others."""


def gates(fast, slow):
    """As demo.json has them, `timed` if it is a time; from the rows at 1 Gbit/s and at 100 Mbit/s."""
    found = []

    def gate(text, value, passed, timed=False):
        found.append({"gate": text, "value": round(value, 4), "passed": bool(passed),
                      "timed": timed})

    for row in fast:
        scatter = row["op"].startswith("reduce_scatter")
        wanted, loudest, slack = (3.6, 22, 0.01) if scatter else (1.9, 46, 0.002)
        off = row["bytes_exact"] / row["bytes_formula"] - 1
        name = row["name"]
        gate(f"{name}: exact bytes within 3 % of the formula", off, abs(off) <= 0.03)
        gate(f"{name}: at least {wanted} times fewer bytes", row["ratio"], row["ratio"] >= wanted)
        gate(f"{name}: SQNR at least {loudest} dB", row["sqnr_db"], row["sqnr_db"] >= loudest)
        gate(f"{name}: gain within 1 +- {slack}", row["gain"], abs(row["gain"] - 1) <= slack)
    for rows, share in ((fast, 0.85), (slow, 0.9)):
        for row in rows:
            measured = row["seconds_exact"] / row["seconds"] / row["ratio"]
            gate(f"{row['name']}: time ratio at least {share:.0%} of the byte ratio at {row['rate']}",
                 measured, measured >= share, timed=True)
    return found


def show(passes):
    for rows in passes:
        print(f"\n== {rows[0]['rate']} between the nodes, {rows[0]['mebibytes']} MiB of bf16 a collective")
        print(f"{'collective':26}{'codec':>6}{'MB exact':>10}{'formula':>9}{'MB':>8}{'fewer':>7}"
              f"{'s exact':>9}{'s':>8}{'faster':>8}{'SQNR':>7}{'gain':>9}")
        for row in rows:
            print(f"{row['name']:26}{row['codec']:>6}{row['bytes_exact'] / 1e6:10.2f}"
                  f"{row['bytes_formula'] / 1e6:9.2f}{row['bytes'] / 1e6:8.2f}{row['ratio']:6.2f}x"
                  f"{row['seconds_exact']:9.3f}{row['seconds']:8.3f}"
                  f"{row['seconds_exact'] / row['seconds']:7.2f}x{row['sqnr_db']:7.2f}"
                  f"{row['gain']:9.5f}")
        exact, fewer = (sum(row[field] for row in rows) for field in ("bytes_exact", "bytes"))
        slow, fast = (sum(row[field] for row in rows) for field in ("seconds_exact", "seconds"))
        print(f"{'one step':32}{exact / 1e6:10.2f}{'':9}{fewer / 1e6:8.2f}{exact / fewer:6.2f}x"
              f"{slow:9.3f}{fast:8.3f}{slow / fast:7.2f}x")


def show_gates(found):
    print()
    for gate in found:
        print(f"{'PASS' if gate['passed'] else 'RED '}  {gate['gate']}: {gate['value']}")
    red = sum(not gate["passed"] for gate in found)
    print(f"== gates: {len(found) - red} PASS, {red} RED")


def is_wrong(found):
    """Whether something but time is RED: a busy machine is slow, and no less right."""
    wrong = any(not gate["passed"] and not gate.get("timed") for gate in found)
    slow = any(not gate["passed"] and gate.get("timed") for gate in found)
    if slow and not wrong:
        print("== times are RED: was the machine busy with something else?")
    return wrong
