#!/usr/bin/python3
"""Runs a trainer of scripts/ under torchrun on two pretend nodes, on emulated GPUs: the unmodified
CUDA build of PyTorch that `./dev trainers setup` fetched, backend nccl.

  ./dev trainers once fsdp2 [--preload LIBRARY] [--one-host] [--nodes 2x2] [-- OPTIONS OF THE SCRIPT]

Everything that the agents and ranks print is kept, in build/trainers/runs/NAME. Other folders of
libraries, as in LD_LIBRARY_PATH: TRAINERS_CUDA (libcuda.so.1, libcudart.so.13) and TRAINERS_NCCL
(libnccl.so.2). TRAINERS_PRELOAD is the file to preload.
"""
import argparse
import glob
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import uuid

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.join(ROOT, "tools", "dev"))
import launch  # noqa: E402

BUILD = os.environ.get("SLIMCCL_BUILD", os.path.join(ROOT, "build"))
MADE = os.path.join(BUILD, "trainers")  # by tools/dev/trainers.sh
PYTHON = os.path.join(MADE, "venv", "bin", "python")
CUDA = os.environ.get("TRAINERS_CUDA") or ":".join(
    os.path.join(BUILD, "tests", "cuda", folder) for folder in ("cudart", "emulated"))
NCCL = os.environ.get("TRAINERS_NCCL") or os.path.join(BUILD, "tests", "vendor")
LIBRARIES = {"libcuda.so.1": CUDA, "libcudart.so.13": CUDA, "libnccl.so.2": NCCL}
PRELOAD = os.environ.get("TRAINERS_PRELOAD") or os.path.join(
    BUILD, "plugin", "preload", "libslimccl-preload.so")
MARK = "TRAINERS_RUN"
# Delays and strict kernels find mistakes in how calls are enqueued, which compressed_test.py looks
# for; runs for other ends do without.
FAST = {"SLIMCCL_EMULATED_DELAY_US": 0, "SLIMCCL_EMULATED_KERNELS": "rows"}

# One torchrun a node. The vendor's stand-in (tests/vendor) has settings of its own.
# --redirects 3 keeps the output of each rank by itself. TRAINERS_LAUNCHER goes before torchrun, on
# the nodes of TRAINERS_LAUNCHED. TRAINERS_BARE: nodes that do not preload. TRAINERS_CORES: of each node.
AGENT = """case " $TRAINERS_BARE " in *" $RANK "*) unset LD_PRELOAD ;; esac
if [ -n "${SLIMCCL_NODE_ID:-}" ]; then
  export NCCL_HOSTID=$SLIMCCL_NODE_ID VENDOR_SLIMCCL_NODE_ID=$SLIMCCL_NODE_ID
fi
launcher=()
case " $TRAINERS_LAUNCHED " in *" $RANK "*) read -ra launcher <<<"$TRAINERS_LAUNCHER" ;; esac
read -ra cores <<<"${TRAINERS_CORES:-}"
[ -z "${cores[RANK]:-}" ] || taskset --pid --cpu-list "${cores[RANK]}" $$ >/dev/null || exit
exec "${launcher[@]}" "$0" -m torch.distributed.run \
  --nnodes "$TRAINERS_NODES" --nproc-per-node "$TRAINERS_RANKS" \
  --node-rank "$RANK" --master-addr "$MASTER_ADDR" --master-port "$MASTER_PORT" \
  --redirects 3 --log-dir "$TRAINERS_LOGS/node$RANK" "$@"
"""
OUTPUT = re.compile(r"node(\d+)/[^/]+/attempt_0/(\d+)/stdout\.log$")
# How the emulation says that it was misused, or asked for something that it does not do.
COMPLAINT = re.compile(r"slimccl-stub: .*|\[emulated cuda(?:rt)?\] .*|emulated CUDA: .*")


class Failed(RuntimeError):
    """A run that did not end well; the text has what its ranks said last."""

    def __init__(self, text, run=None):
        super().__init__(text)
        self.run = run


class Run:
    """What a finished run printed, and `left`: its processes that had to be ended."""

    def __init__(self, folder, agents, seconds, left=()):
        self.folder, self.seconds, self.left = folder, seconds, left
        self.ranks = [text for _, text in sorted(outputs(folder))]
        self.text = "\n".join([*agents, *self.ranks])
        report = self.ranks[0] if self.ranks else ""
        self.losses_by_rank = [re.findall(r"^step \d+ loss (\S+)", text, re.M)
                               for text in self.ranks]
        self.losses = self.losses_by_rank[0] if self.ranks else []
        self.parameters = re.findall(r"^parameters (\w+)$", report, re.M)
        self.complaints = COMPLAINT.findall(self.text)


def outputs(folder):
    """((node, local rank), what it printed) of every rank that was started."""
    for path in glob.glob(os.path.join(folder, "node*", "*", "attempt_0", "*", "stdout.log")):
        place = tuple(int(number) for number in OUTPUT.search(path).groups())
        text = ""
        for name in (path, path.replace("stdout.log", "stderr.log")):
            with open(name, encoding="utf-8", errors="replace") as file:
                text += file.read()
        yield place, text


def read_reports(pattern):
    """What the processes of a run wrote; %h and %p in the pattern stand for anything."""
    for path in sorted(glob.glob(pattern.replace("%h", "*").replace("%p", "*"))):
        with open(path, encoding="utf-8") as file:
            yield json.load(file)


def missing(trainer=None):
    """Why nothing can be run here, or None."""
    packages = os.path.join(MADE, "venv", "lib", "python3*", "site-packages")
    if not os.path.exists(os.path.join(MADE, "libfallback.so.stamp")):
        return "no PyTorch here: ./dev trainers setup fetches it"
    if trainer == "zero" and not glob.glob(os.path.join(packages, "deepspeed")):
        return "no DeepSpeed here: ./dev trainers setup fetches it"
    for library, folders in LIBRARIES.items():
        if not any(os.path.exists(os.path.join(one, library)) for one in folders.split(":")):
            return f"no {library} in {folders}"
    return None


def first_thread(core):
    """The lowest number of those that are threads of the same core."""
    path = f"/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list"
    try:
        with open(path, encoding="utf-8") as file:
            return int(re.match(r"\d+", file.read())[0])
    except (OSError, TypeError):
        return core


def shares(nodes, cores, first=first_thread):
    """The cores of each pretend node, as taskset takes them: its own, as a machine has, so that no
    thread takes another node's cores for idle and spins there. Whole ones, with all their threads,
    if there are enough; [] where nodes outnumber threads."""
    whole = {}
    for core in sorted(cores):
        whole.setdefault(first(core), []).append(core)
    parts = list(whole.values()) if len(whole) >= nodes else [[core] for core in sorted(cores)]
    each = len(parts) // nodes
    return [",".join(map(str, sum(parts[node * each:(node + 1) * each], [])))
            for node in range(nodes)] if each else []


def environment(devices, preload=None):
    """What makes torch run on emulated devices; TRAINERS_RUN marks all processes of the run."""
    variables = {
        "LD_LIBRARY_PATH": f"{CUDA}:{NCCL}:{os.path.join(MADE, 'stubs')}",
        "PYTHONPATH": os.path.join(HERE, "site"),
        "TRAINERS_FALLBACK": os.path.join(MADE, "libfallback.so"),
        "SLIMCCL_EMULATED_DEVICES": devices, "SLIMCCL_EMULATED_MB": 4096,
        "OMP_NUM_THREADS": 1, "MKL_NUM_THREADS": 1, "DS_BUILD_OPS": 0,
        MARK: uuid.uuid4().hex,
    }
    if preload:
        variables["LD_PRELOAD"] = preload
    return variables


def processes(mark):
    """(number, command) of each process of a run that lives."""
    for path in glob.glob("/proc/[0-9]*/environ"):
        folder = os.path.dirname(path)
        try:
            with open(path, "rb") as file, open(f"{folder}/cmdline", "rb") as command:
                if f"{MARK}={mark}".encode() in file.read().split(b"\0"):
                    yield int(os.path.basename(folder)), command.read().replace(b"\0", b" ")
        except OSError:
            pass  # it has ended, or is another user's


def end_all(mark, patience=0):
    """Ends what is left of a run after `patience` seconds, and tells what was: a torchrun that is
    killed leaves its ranks running."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline and any(processes(mark)):
        time.sleep(0.2)
    left = [(number, command.decode(errors="replace")) for number, command in processes(mark)]
    for number, _ in left:
        try:
            os.kill(number, signal.SIGKILL)
        except ProcessLookupError:
            pass
    return left


def failure(trainer, problems, run):
    tails = [f"[rank {rank}] {line}" for rank, text in enumerate(run.ranks)
             for line in text.rstrip().splitlines()[-8:]]
    return Failed("\n".join([f"{trainer}: " + "; ".join(problems), *tails,
                             f"all of it: {run.folder}"]), run)


def run(trainer, arguments=(), name=None, nodes="2x2", cluster=None, preload=None, env=None,
        timeout=300, launcher="", launched=None, bare=(), stop_on_failure=True):
    """One run, ended after `timeout` seconds. With a cluster on its first nodes, otherwise on this
    host, which pretends them; the nodes of `bare` do not preload. `trainer` is of scripts/, or a
    path without ".py"; `launcher`, a command such as slimccl-run, is put before torchrun, on all
    nodes or those `launched`. Raises Failed if a rank failed or printed no parameters, or the
    emulation complained. A node that fails ends the others within seconds, unless `stop_on_failure`
    is false: then each must end by itself."""
    node_count, ranks = (int(part) for part in nodes.split("x"))
    folder = os.path.join(MADE, "runs", name or os.path.basename(trainer))
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    variables = {**environment(ranks, preload), "TRAINERS_NODES": node_count,
                 "TRAINERS_RANKS": ranks, "TRAINERS_LOGS": folder, "TRAINERS_LAUNCHER": launcher,
                 "TRAINERS_LAUNCHED": " ".join(map(str, launched or range(node_count))),
                 "TRAINERS_BARE": " ".join(map(str, bare)), **(env or {})}
    if cluster:
        variables["TRAINERS_CORES"] = " ".join(shares(node_count, os.sched_getaffinity(0)))
    else:  # pretended nodes speak over loopback
        variables.setdefault("SLIMCCL_ADDRESS", "127.0.0.1")
        variables.setdefault("VENDOR_SLIMCCL_ADDRESS", "127.0.0.1")
    script = os.path.join(HERE, "scripts", f"{trainer}.py")
    started, patience = time.monotonic(), 0
    agents = launch.start(["bash", "-c", AGENT, PYTHON, script, *map(str, arguments)],
                          list(range(node_count)), cluster, variables)
    try:
        problems = launch.finish(agents, timeout, stop_on_failure=stop_on_failure)
        patience = 0 if stop_on_failure else timeout - (time.monotonic() - started)
    finally:
        launch.kill(agents)
        left = end_all(variables[MARK], patience)
    for agent in agents:
        with open(os.path.join(folder, f"agent{agent.node}.log"), "wb") as file:
            file.write(agent.output)
    done = Run(folder, [agent.text for agent in agents], time.monotonic() - started, left)
    problems += [f"node {agent.node}: torchrun {launch.how(agent.code)}" for agent in agents
                 if agent.code and not stop_on_failure]
    if not problems and len(done.parameters) != 1:
        problems = [f"all {len(done.ranks)} ranks ended well, yet rank 0 told no parameters"]
    problems += done.complaints
    if problems:
        raise failure(trainer, problems, done)
    return done


def run_alone(script, devices=2, timeout=120):
    """Output and exit code of a script in one process."""
    variables = {name: str(value) for name, value in environment(devices).items()}
    result = subprocess.run([PYTHON, script], env={**os.environ, **variables}, timeout=timeout,
                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, text=True)
    return result.stdout, result.returncode


def options(arguments):
    """Ours, and after "--" the script's."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trainer", metavar="SCRIPT", help="of scripts/, without .py")
    parser.add_argument("--nodes", default="2x2", help="nodes x ranks of each")
    parser.add_argument("--preload", help=f"for LD_PRELOAD, such as {PRELOAD}")
    parser.add_argument("--one-host", action="store_true", help="no namespaces even for root")
    parser.add_argument("--timeout", type=float, default=300)
    end = arguments.index("--") if "--" in arguments else len(arguments)
    return parser.parse_args(arguments[:end]), arguments[end + 1:]


def main():
    chosen, arguments = options(sys.argv[1:])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    reason = missing(chosen.trainer)
    if not os.path.exists(os.path.join(HERE, "scripts", f"{chosen.trainer}.py")):
        reason = f"there is no script tests/trainers/scripts/{chosen.trainer}.py"
    if reason:
        sys.exit(f"trainers: {reason}")
    cluster = None if chosen.one_host or os.getuid() != 0 else f"r{os.getpid()}"
    if cluster:
        launch.cluster_up(cluster, int(chosen.nodes.split("x")[0]))
    try:
        done = run(chosen.trainer, arguments, f"by-hand-{chosen.trainer}", chosen.nodes, cluster,
                   chosen.preload, timeout=chosen.timeout)
        print(f"{done.ranks[0]}{done.seconds:.1f} s; all output: {done.folder}")
    except Failed as error:
        sys.exit(str(error))
    finally:
        if cluster:
            launch.cluster(cluster, "down")


if __name__ == "__main__":
    main()
