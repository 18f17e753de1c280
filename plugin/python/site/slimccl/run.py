"""slimccl-run [options] COMMAND...: runs a trainer's command with the preloaded file in front of
NCCL, and with hooks that count ranks and steps and pause compression around checkpoints."""
import argparse
import os
import shutil
import signal
import sys

from slimccl import checks, libraries, mode

PROFILES = ("exact", "audit", "auto", "zeropp")
EXAMPLES = """examples, on every node:
  slimccl-run torchrun --nnodes 2 --nproc-per-node 8 ... train.py
  slimccl-run --profile zeropp --report run.json deepspeed --no_ssh ... train.py
  slimccl-run accelerate launch --num_machines 2 ... train.py
  srun slimccl-run python train.py

Each node needs its own slimccl-run: launchers that reach other nodes by ssh (deepspeed with a host
file, mpirun) leave the environment behind. Rank 0 says how many ranks are active.
exit codes: the command's; 2 for what slimccl-run itself refuses, 127 for an unknown command."""
NOT_FOUND, CANNOT_RUN, REFUSED = 127, 126, 2


def options(arguments):
    parser = argparse.ArgumentParser(
        prog="slimccl-run", usage="slimccl-run [options] COMMAND ...", epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False,
        description="Runs COMMAND with collectives between nodes quantized under its NCCL.")
    parser.add_argument("--profile", help="exact, audit (says what would be saved), auto (weights "
                        "and gradients that all ranks have seen to be such; the default) or zeropp")
    parser.add_argument("--report", metavar="FILE", help="each process writes what it compressed, "
                        "as JSON; %%h and %%p are its host and process id, put in where missing")
    parser.add_argument("--rules", metavar="RULES", help="a file, or COMM[:OP[:TYPE]]=TREAT;...")
    parser.add_argument("--allow-inactive", action="store_true",
                        help="warn, and go on, where the torch of COMMAND's Python cannot be served: "
                        "what has no hooks stays exact")
    parser.add_argument("--preload", metavar="FILE", help=f"another {libraries.PRELOAD}")
    parser.add_argument("--verbose", action="store_true", help="say what is set and hooked")
    parser.add_argument("command", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    if chosen.command[:1] == ["--"]:
        chosen.command = chosen.command[1:]
    if not chosen.command:
        raise checks.Refused("no command to run; slimccl-run torchrun ... train.py, for example")
    return chosen


def profile_of(chosen):
    profile = chosen.profile or os.environ.get(mode.PROFILE) or mode.profile() or "auto"
    if profile not in PROFILES:
        where = "--profile" if chosen.profile else mode.PROFILE
        raise checks.Refused(f"{where} {profile}: there is no such profile; exact, audit, auto or "
                             "zeropp")
    return profile


def report_pattern(path):
    """Absolute, in a folder that exists, with a name of its own for each process."""
    path = os.path.abspath(path)
    if "%p" not in path:
        stem, extension = os.path.splitext(path)
        path = f"{stem}{'' if '%h' in path else '-%h'}-%p{extension}"
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
    except OSError as error:
        raise checks.Refused(f"--report: no folder {os.path.dirname(path)}: {error.strerror}") \
            from None
    return path


def rules_value(rules):
    if "=" in rules:
        return rules
    if not os.path.isfile(rules):
        raise checks.Refused(f"--rules {rules}: there is no such file, and a rule has a '=', as in "
                             "'tp*=exact'")
    return os.path.abspath(rules)


def prepended(first, rest):
    """A list with ':' as LD_PRELOAD and PYTHONPATH are, without repeating its new first element.
    An empty element stays: to Python it is the current folder."""
    return ":".join([first, *(part for part in rest.split(":") if part != first)]
                    if rest else [first])


def environment(chosen):
    """The command's."""
    try:
        preload = os.path.abspath(chosen.preload) if chosen.preload else libraries.find_preload()
    except FileNotFoundError as error:
        raise checks.Refused(str(error)) from None
    profile = profile_of(chosen)
    env = {name: value for name, value in os.environ.items() if name != mode.PROFILE}
    checks.check_preload(preload)
    env["LD_PRELOAD"] = prepended(preload, env.get("LD_PRELOAD", "").replace(" ", ":"))
    if libraries.source_tree():
        env["PYTHONPATH"] = prepended(libraries.SITE, env.get("PYTHONPATH"))
    if chosen.report:
        env["SLIMCCL_REPORT"] = report_pattern(chosen.report)
    if chosen.rules:
        env["SLIMCCL_RULES"] = rules_value(chosen.rules)
    env[mode.VARIABLE] = mode.text(profile, chosen.allow_inactive, chosen.verbose)
    return env


def tell(chosen, env):
    if chosen.report and env["SLIMCCL_REPORT"] != os.path.abspath(chosen.report):
        mode.say(f"reports: {env['SLIMCCL_REPORT']} (%h is the host, %p the process id)")
    if chosen.verbose:
        for name in ("LD_PRELOAD", mode.VARIABLE, "SLIMCCL_REPORT", "SLIMCCL_RULES", "PYTHONPATH"):
            mode.say(f"{name}={env.get(name, '')}")


def main(arguments=None):
    """Becomes the command. Returns only when that is impossible, with the exit code."""
    try:
        chosen = options(sys.argv[1:] if arguments is None else arguments)
        command = chosen.command
        if shutil.which(command[0]) is None:
            found = os.path.exists(command[0]) and "/" in command[0]
            mode.say(f"{command[0]}: " + ("cannot be executed; is it a script? python "
                                          f"{command[0]}" if found else "command not found"))
            return CANNOT_RUN if found else NOT_FOUND
        env = environment(chosen)
        checks.check_torch(command, env, chosen.allow_inactive)
        tell(chosen, env)
        sys.stdout.flush()
        for ignored in (signal.SIGPIPE, signal.SIGXFSZ):  # by Python: the command would inherit it
            signal.signal(ignored, signal.SIG_DFL)
        os.execvpe(command[0], command, env)
    except checks.Refused as error:
        mode.say(error)
        return REFUSED
    except OSError as error:
        mode.say(f"{command[0]}: {error.strerror}")
        return CANNOT_RUN


if __name__ == "__main__":
    sys.exit(main())
