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
    except (ImportError, AttributeError, TypeError) as error:  # another version, on all ranks
        mode.of_rank_0(f"nothing is gathered anew ({type(error).__name__}: {error}): what a "
                       "framework still holds gathered may be saved rounded")
        return False


def _words(store, keys):
    extended = getattr(store, "has_extended_api", lambda: False)()
    return store.multi_get(keys) if extended else [store.get(key) for key in keys]


def _decide(store, ranks):
    """One rank reads what all have written; any does, once it has waited long enough for that one."""
    decision, keys = f"all {ranks} are active", [str(rank) for rank in range(ranks)]
    reads = store.add(f"readers for {ranks}", 1) == 1
    deadline, pause = time.monotonic() + PATIENCE_S, 0.02
    while not store.check([decision]):
        late = time.monotonic() > deadline
        if late or reads and store.check(keys):
            active = store.check(keys) and not any(
                json.loads(word)["why"] for word in _words(store, keys))
            store.compare_set(decision, "", "yes" if active else "no")  # the first one's holds
            break
        time.sleep(pause)
        pause = min(2 * pause, 0.5)
    if store.get(decision) == b"yes":
        return True
    mode.of_rank_0("not all ranks are active, so that nothing is gathered anew: what a framework "
                   "still holds gathered is saved as it is, which may be rounded")
    return False
