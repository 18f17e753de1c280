"""What slimccl-run tells the processes under it: SLIMCCL_RUN, words joined by commas. Without it
our hooks do nothing."""
import os

VARIABLE = "SLIMCCL_RUN"


def text(allow_inactive=False, verbose=False):
    words = ["on"]
    words += ["allow-inactive"] if allow_inactive else []
    words += ["verbose"] if verbose else []
    return ",".join(words)


def has(word):
    return word in os.environ.get(VARIABLE, "").split(",")


def remember(word):
    """For this process and those that it starts."""
    os.environ[VARIABLE] = ",".join([os.environ.get(VARIABLE, "on"), word])


def say(what):
    """A line of stderr, whole even when many ranks write."""
    try:
        os.write(2, f"slimccl-run: {what}\n".encode(errors="replace"))
    except OSError:
        pass  # nobody listens


def of_rank_0(what, rank=None):
    """The same of one rank for all: where no launcher told a rank, of every process."""
    if str(os.environ.get("RANK", "0") if rank in (None, -1) else rank) == "0":
        say(what)
