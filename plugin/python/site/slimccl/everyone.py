"""Do all ranks have our hooks? Only then may a hook make a call of its own, such as gathering
weights anew: a rank that was started without slimccl-run would not make it, and all would wait."""
import json
import time

from slimccl import mode

PREFIX = "slimccl-run"
PATIENCE_S = 10.0  # for ranks that write nothing: started without slimccl-run
_asked = (lambda: None), False  # the default process group, weakly, and the answer for it


def write(word):
    """What this rank says of itself, for the others: {"why": not active, ...}."""
    from torch.distributed import PrefixStore, distributed_c10d as c10d

    store = PrefixStore(PREFIX, c10d._get_default_store())
    store.set(str(c10d.get_rank()), json.dumps(word))
    return store


def is_active():
    """Whether all ranks of the default process group are: the same on all that ask. The first that
    asks waits for the others' words, and what it finds holds for all."""
    global _asked
    import weakref

    from torch.distributed import PrefixStore, distributed_c10d as c10d

    try:
        group = c10d._get_default_group()
        if _asked[0]() is not group:
            store = PrefixStore(PREFIX, c10d._get_default_store())
            _asked = weakref.ref(group), _decide(store, c10d.get_world_size())
        return _asked[1]
    except Exception as error:  # of a version without such functions: on all ranks
        mode.of_rank_0(f"nothing is gathered anew ({type(error).__name__}: {error}): what a "
                       "framework still holds gathered may be saved rounded")
        return False


def _decide(store, ranks):
    decision, keys = f"all {ranks} are active", [str(rank) for rank in range(ranks)]
    deadline, pause = time.monotonic() + PATIENCE_S, 0.02
    while not store.check(keys) and not store.check([decision]):
        if time.monotonic() > deadline:
            break
        time.sleep(pause)
        pause = min(2 * pause, 0.5)
    # Without an exception in between: whoever comes first decides.
    active = store.check(keys) and not any(json.loads(store.get(key))["why"] for key in keys)
    return store.compare_set(decision, "", "yes" if active else "no") == b"yes"
