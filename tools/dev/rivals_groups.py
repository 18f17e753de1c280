"""The libraries of ./dev bench rivals: how each is started on the pretend cluster, and a group of
its ranks that answers commands (perf/rivals/protocol.h)."""
import contextlib
import json
import os
import selectors
import signal
import socket
import struct
import subprocess
import time

import launch

OURS = "SlimCCL"
CLUSTER_RSH = os.path.join(os.path.dirname(os.path.abspath(__file__)), "cluster_rsh")
TICKS = os.sysconf("SC_CLK_TCK")
# Every library runs with its defaults, except for these; (setting, why). None makes a rival slower:
# what is not needed to run at all was kept because it was measured to be faster.
SETTINGS = {
    OURS: (
        ("SLIMCCL_PROFILE=exact", "nothing is compressed: fp32 against fp32"),
    ),
    "MPICH": (
        ("mpiexec -launcher ssh -launcher-exec cluster_rsh", "there is no sshd on the pretend nodes"),
        ("mpiexec -iface eth0", "the launcher's own connections"),
        ("MPIR_CVAR_CH4_NETMOD=ofi FI_PROVIDER=tcp FI_TCP_IFACE=eth0",
         "the cluster's interface; its default, UCX, is a little slower here"),
        ("MPIR_CVAR_POLLS_BEFORE_YIELD=10", "two nodes share the cores: not slower than its 1000 here"),
    ),
    "OpenMPI": (
        ("--mca plm_rsh_agent cluster_rsh", "there is no sshd on the pretend nodes"),
        ("--mca btl_tcp_if_include eth0", "the cluster's interface; its choice could be lo"),
        ("--mca oob_tcp_if_include eth0", "the launcher's own connections"),
        ("--oversubscribe --bind-to none", "two nodes share the cores: bound ranks would collide"),
        ("--mca mpi_yield_when_idle 1", "each node believes the cores its own, and would spin"),
    ),
    "oneCCL": (
        ("CCL_ATL_TRANSPORT=ofi", "its other transport is Intel MPI, which it is not started by"),
        ("FI_PROVIDER=tcp FI_TCP_IFACE=eth0", "the cluster's interface"),
        ("libfabric of MPICH's wheel", "it asks for 2.6; this is 2.5, faster than Debian's 1.17"),
        ("CCL_ATL_SHM=1", "shared memory inside a node: faster than without"),
        ("CCL_KVS_IFACE=eth0", "where its ranks meet"),
        ("CCL_LOCAL_RANK CCL_LOCAL_SIZE", "no launcher tells it which ranks share a node"),
        ("CCL_YIELD=sched_yield", "its workers would spin; two nodes share the cores"),
    ),
}


class GroupFailure(Exception):
    """A library did not do what it was asked; the text says what, and the end of what it printed."""


def rank_processes(program, topology, cluster, path, log, env):
    """One process per rank. The shell gives oneCCL its names for what torchrun's variables say."""
    local = 'export CCL_LOCAL_RANK=$LOCAL_RANK CCL_LOCAL_SIZE=$LOCAL_WORLD_SIZE; exec "$0" "$1"'
    ranks = launch.start(["sh", "-c", local, program, path], topology, cluster, env, output=log)
    return [rank.process for rank in ranks]


def mpi_processes(command, cluster, log, env):
    """The launcher, on node 0; it starts the ranks."""
    full = dict(os.environ, CLUSTER_NAME=cluster, **env)
    return [subprocess.Popen([launch.CLUSTER_TOOL, "exec", "0", *command], env=full, stdout=log, stderr=log,
                             stdin=subprocess.DEVNULL, preexec_fn=launch.die_with_parent)]


def start_ours(programs, topology, cluster, path, log):
    env = {"SLIMCCL_PROFILE": "exact", "SLIMCCL_LOG": "warn"}
    return rank_processes(programs[OURS], topology, cluster, path, log, env)


def host_list(topology, cluster):
    labels = launch.parse_nodes(topology)
    return ",".join(f"{cluster}{node}:{labels.count(node)}" for node in sorted(set(labels))), len(labels)


def start_mpich(programs, topology, cluster, path, log):
    hosts, ranks = host_list(topology, cluster)
    mpiexec = os.path.join(programs["peers"], "mpich", "bin", "mpiexec")
    command = [mpiexec, "-launcher", "ssh", "-launcher-exec", CLUSTER_RSH, "-iface", "eth0",
               "-hosts", hosts, "-np", str(ranks), programs["MPICH"], path]
    return mpi_processes(command, cluster, log, {"MPIR_CVAR_CH4_NETMOD": "ofi", "FI_PROVIDER": "tcp",
                                                 "FI_TCP_IFACE": "eth0", "MPIR_CVAR_POLLS_BEFORE_YIELD": "10"})


def start_openmpi(programs, topology, cluster, path, log):
    hosts, ranks = host_list(topology, cluster)
    command = ["mpirun.openmpi", "--mca", "plm_rsh_agent", CLUSTER_RSH, "--host", hosts, "-np", str(ranks),
               "--oversubscribe", "--bind-to", "none", "--mca", "btl_tcp_if_include", "eth0",
               "--mca", "oob_tcp_if_include", "eth0", "--mca", "mpi_yield_when_idle", "1",
               programs["OpenMPI"], path]
    # Root is what makes namespaces, so root it is.
    return mpi_processes(command, cluster, log, {"OMPI_ALLOW_RUN_AS_ROOT": "1",
                                                 "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"})


def start_oneccl(programs, topology, cluster, path, log):
    libfabric = os.path.join(programs["peers"], "mpich", "lib", "mpich")
    env = {"CCL_ATL_TRANSPORT": "ofi", "CCL_ATL_SHM": "1", "CCL_KVS_IFACE": "eth0", "FI_PROVIDER": "tcp",
           "FI_TCP_IFACE": "eth0", "CCL_YIELD": "sched_yield", "CCL_LOG_LEVEL": "error",
           "LD_LIBRARY_PATH": libfabric}
    return rank_processes(programs["oneCCL"], topology, cluster, path, log, env)


STARTERS = {OURS: start_ours, "MPICH": start_mpich, "OpenMPI": start_openmpi, "oneCCL": start_oneccl}


class Connection:
    """One rank's end of the protocol."""

    def __init__(self, accepted):
        self.socket, self.pending = accepted, b""
        self.rank = self.host = None
        credentials = accepted.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        self.pid = struct.unpack("3i", credentials)[0]
        self.process = os.pidfd_open(self.pid)  # a number may be given away again, this not

    def send(self, line):
        self.socket.sendall(line.encode() + b"\n")

    def receive(self, deadline):
        """The next answer. Raises socket.timeout, or EOFError when the rank has gone."""
        while b"\n" not in self.pending:
            self.socket.settimeout(max(0.001, deadline - time.monotonic()))
            data = self.socket.recv(65536)
            if not data:
                raise EOFError
            self.pending += data
        line, _, self.pending = self.pending.partition(b"\n")
        return json.loads(line)

    def cpu_seconds(self):
        """Of all threads of the rank, so far; 0 when it has gone."""
        try:
            with open(f"/proc/{self.pid}/stat") as file:
                fields = file.read().rpartition(")")[2].split()
            return (int(fields[11]) + int(fields[12])) / TICKS
        except OSError:
            return 0.0


    def end(self):
        """Kills the rank, if it still runs: a launcher may have gone before it."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.process, signal.SIGKILL)
        os.close(self.process)


class Group:
    """The ranks of one library. They stay up, blocked, until close()."""

    def __init__(self, name, ranks, folder, start):
        """start(path, log) starts the processes, which will connect to `path` and print into `log`."""
        self.name, self.ranks, self.version = name, ranks, ""
        self.path, self.log = (os.path.join(folder, f"{name}.{end}") for end in ("socket", "log"))
        self.processes, self.connections = [], []
        self.start = start

    def open(self, timeout):
        """Starts the ranks and waits until all are ready."""
        deadline = time.monotonic() + timeout
        with socket.socket(socket.AF_UNIX) as listener, open(self.log, "wb") as log:
            listener.bind(self.path)
            listener.listen(self.ranks)
            self.processes = self.start(self.path, log)
            self.accept(listener, deadline)
        hellos = self.receive("connect", deadline)
        for connection, hello in zip(self.connections, hellos):
            connection.rank, connection.host = hello["rank"], hello["host"]
        self.connections.sort(key=lambda connection: connection.rank)
        self.send(next(hello["id"] for hello in hellos if hello["rank"] == 0))
        self.version = " ".join(self.receive("start", deadline)[0]["version"].split())

    def accept(self, listener, deadline):
        with selectors.DefaultSelector() as selector:
            selector.register(listener, selectors.EVENT_READ)
            while len(self.connections) < self.ranks:
                if selector.select(0.1):
                    self.connections.append(Connection(listener.accept()[0]))
                codes = [process.poll() for process in self.processes]
                if any(code is not None for code in codes):
                    self.fail(f"a process {launch.how(next(code for code in codes if code is not None))} "
                              "before all ranks were there")
                if time.monotonic() > deadline:
                    self.fail(f"only {len(self.connections)} of {self.ranks} ranks came in time")

    def hosts(self):
        return [connection.host for connection in self.connections]

    def ask(self, line, timeout):
        """Sends the line to all ranks; their answers in the order of ranks."""
        self.send(line)
        return self.receive(line.split()[0], time.monotonic() + timeout)

    def time(self, timeout, lead=0.01):
        """Seconds of one call, of the slowest rank. All ranks start `lead` seconds from now."""
        start = time.monotonic_ns() + int(lead * 1e9)
        return max(answer["seconds"] for answer in self.ask(f"time {start}", timeout))

    def send(self, line):
        for connection in self.connections:
            try:
                connection.send(line)
            except OSError:
                self.fail(f"rank {connection.rank} had gone before '{line.split()[0]}'")

    def receive(self, what, deadline):
        answers = []
        for connection in self.connections:
            try:
                answers.append(connection.receive(deadline))
            except socket.timeout:
                self.fail(f"no answer to '{what}' in time")
            except (EOFError, OSError, ValueError):
                self.fail(f"a rank ended during '{what}'")
        return answers

    def fail(self, reason):
        time.sleep(0.2)  # for last words
        with open(self.log, errors="replace") as file:
            lines = [line.strip() for line in file if line.strip()]
        raise GroupFailure("; ".join([reason, *(line[:100] for line in lines[-3:])]))

    def cpu_seconds(self):
        return sum(connection.cpu_seconds() for connection in self.connections)

    def close(self):
        """Lets the ranks end, and ends those that do not. Never raises."""
        for connection in self.connections:
            connection.socket.close()
        deadline = time.monotonic() + 3
        for process in self.processes:
            try:
                process.wait(max(0.01, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for connection in self.connections:
            connection.end()
        self.connections, self.processes = [], []
