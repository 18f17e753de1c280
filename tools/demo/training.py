"""The demo's main part: a small GPT under FSDP2, started by torchrun on two nodes at 1 Gbit/s, with and
without the overlay. tests/trainers/step_time.py does it; here it is shown while it runs."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tests", "trainers"))
import step_time  # noqa: E402

ROUNDS = 2
missing = step_time.measure.missing  # why there can be no training here, or None
Failed = step_time.torchrun.Failed


def tell_run(turn, profile):
    how = {"none": "exact, without the overlay"}.get(profile, f"LD_PRELOAD, profile {profile}")
    print(f"   round {turn + 1} of {ROUNDS}, {how}", flush=True)


def tell_step(line, sent):
    words = line.split()  # step 3 loss 0x1p+1 = 2.000000 in 0.5 s
    sent = f", {sent / 1e6:6.1f} MB between the nodes" if sent else ""
    print(f"      step {int(words[1]) + 1:2} of {step_time.STEPS}: loss {float(words[5]):.4f}, "
          f"{float(words[7]):6.3f} s{sent}", flush=True)


def run():
    """(what demo.json has as `training`, its gates)"""
    found = step_time.summary(step_time.race(tell_run, tell_step, ROUNDS))
    step_time.show(found)
    return found, step_time.judge(found)
