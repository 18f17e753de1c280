"""How many ranks are active: each writes a line into the process group's store when the group is
made, and rank 0 tells, on a thread that nobody waits for."""
import atexit
import collections
import json
import os
import socket
import threading
import time

from slimccl import everyone, mode, overlay, patching, threads, torch_nccl

SILENT = "no word from {them}: started without slimccl-run"


def watch(module):
    """Of torch.distributed.distributed_c10d, whose function other modules have taken already:
    torch.distributed itself, and its device_mesh."""
    patching.wrap_everywhere(module, "init_process_group", counted)


def counted(init_process_group):
    def wrapper(*arguments, **keywords):
        first = not mode.has("counted")  # of this process and of those that started it
        problem = nccl_problem()
        if problem and not mode.has("allow-inactive"):
            refuse(problem, keywords.get("rank"))
        overlay.is_active()  # loads the core with our profile before NCCL would
        result = init_process_group(*arguments, **keywords)
        threads.this_one_trains()
        try:
            store = everyone.write(own_word(problem))
            if first:
                mode.remember("counted")
                tell(store)
        except Exception as error:  # training goes on, uncounted
            mode.say(f"ranks are not counted: {type(error).__name__}: {error}")
        return result
    return wrapper


def nccl_problem():
    import torch

    return torch_nccl.problem(os.path.dirname(torch.__file__))


def refuse(problem, rank):
    """Ends this rank; all of one torch end alike, and one of them says why."""
    mode.of_rank_0(f"{problem}. {mode.ANYWAY}", rank)
    raise SystemExit(2)


def own_word(problem):
    """What this rank writes."""
    import torch.distributed as dist

    why = overlay.why_inactive()
    if not why and problem:
        why = "NCCL is linked into torch"
    return {"host": socket.gethostname(), "why": why, "backend": dist.get_backend(),
            "profile": mode.core_profile or "exact"}


def tell(store):
    from torch.distributed import distributed_c10d as c10d

    rank, ranks = c10d.get_rank(), c10d.get_world_size()
    # Whoever comes first tells if rank 0 itself was started without slimccl-run.
    if store.add("comers", 1) == 1 or rank == 0:
        teller = Teller(store, rank, ranks)
        teller.start()
        atexit.register(teller.end)


class Teller(threading.Thread):
    """Waits for what the ranks write; every question to the store is answered at once. The thread
    is ended before Python is: one that is in the store's C++ then would bring it down."""

    def __init__(self, store, rank, ranks):
        super().__init__(name="slimccl-run", daemon=True)
        self.store, self.rank, self.ranks = store, rank, ranks
        self.ending = threading.Event()

    def end(self):
        self.ending.set()
        self.join(2)

    def wait_for(self, keys):
        """Until all are there, the patience ends, or the process."""
        deadline, pause = time.monotonic() + everyone.PATIENCE_S, 0.02
        while not self.store.check(keys):
            if time.monotonic() > deadline or self.ending.wait(pause):
                return
            pause = min(2 * pause, 0.5)

    def run(self):
        try:
            keys = [str(rank) for rank in range(self.ranks)]
            self.wait_for(keys if self.rank == 0 else ["0"])
            if self.rank != 0 and self.store.check(["0"]):
                return
            words = [json.loads(self.store.get(key)) if self.store.check([key]) else None
                     for key in keys]
            mode.say(summary(words))
        except Exception as error:  # the store has ended with the program
            mode.say(f"ranks were not counted: {type(error).__name__}: {error}")
        finally:
            # Whoever keeps a store keeps its server: a program that destroys its group and makes
            # another at the same address would meet what the first one wrote.
            self.store = None
            atexit.unregister(self.end)


def named(numbers):
    """[0, 1, 2, 5] -> "ranks 0-2, 5"."""
    runs = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    spans = (str(first) if first == last else f"{first}-{last}" for first, last in runs)
    return f"rank{'s' * (len(numbers) > 1)} {', '.join(spans)}"


def why_not(word):
    """Of the default group: others may be NCCL's."""
    backend = word.get("backend", "nccl")
    other = backend != "undefined" and "nccl" not in backend  # or "cpu:gloo,cuda:nccl"
    return word["why"] or (f"backend {backend}" if other else "")


def summary(words):
    """The line for what the ranks wrote, None for one that wrote nothing."""
    missing, profiles = collections.defaultdict(list), collections.defaultdict(list)
    for rank, word in enumerate(words):
        if word is None:
            missing[SILENT].append(rank)
        elif why_not(word):
            missing[f"host {word['host']}: {why_not(word)}"].append(rank)
        else:
            profiles[word["profile"]].append(rank)
    active = sum(map(len, profiles.values()))
    text = f"{active} of {len(words)} ranks are active"
    if len(profiles) == 1:
        text += f", profile {next(iter(profiles))}"
    elif profiles:
        text += "".join(f", profile {profile} on {named(ranks)}"
                        for profile, ranks in profiles.items())
    parts = [f"{named(ranks)} ({why.replace('{them}', 'them' if len(ranks) > 1 else 'it')})"
             for why, ranks in missing.items()]
    return text + ("; not: " + "; ".join(parts) if parts else "")
