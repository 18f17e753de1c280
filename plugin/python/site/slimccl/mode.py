"""What slimccl-run tells the processes under it: SLIMCCL_RUN, words joined by commas. Without it
our hooks do nothing."""
import contextlib
import os

VARIABLE, PROFILE = "SLIMCCL_RUN", "SLIMCCL_PROFILE"
ANYWAY = ("slimccl-run --allow-inactive goes on all the same: what cannot be served or has no hooks "
          "stays exact")
hooked = False  # start() has installed all hooks in this process
core_profile = None  # SLIMCCL_PROFILE as the core of this process read it


def text(profile, allow_inactive=False, verbose=False):
    words = ["on", f"profile={profile}"]
    words += ["allow-inactive"] if allow_inactive else []
    words += ["verbose"] if verbose else []
    return ",".join(words)


def has(word):
    return word in os.environ.get(VARIABLE, "").split(",")


def profile():
    """What slimccl-run was asked for; None without it."""
    words = os.environ.get(VARIABLE, "").split(",")
    return next((word[8:] for word in words if word.startswith("profile=")), None)


@contextlib.contextmanager
def engaged(late=False):
    """While the core is loaded, when it reads its settings once. Before and after SLIMCCL_PROFILE
    is not set by us: a process without hooks would round its checkpoints, and stays exact, also one
    that this process starts. `late`: it has read them already."""
    global core_profile
    ours = not late and hooked and profile() and PROFILE not in os.environ
    if ours:
        os.environ[PROFILE] = profile()
    core_profile = os.environ.get(PROFILE)
    try:
        yield
    finally:
        if ours:
            os.environ.pop(PROFILE, None)


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
