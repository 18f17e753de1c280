"""What slimccl-run puts into the processes that import torch. torch calls start() by itself,
through the entry point [torch.backends]; without slimccl-run it does nothing; it never raises."""
from slimccl import mode


def start():
    if not mode.has("on") or mode.hooked:
        return
    try:
        install()
        mode.hooked = True
    except Exception as error:  # the program is not to suffer
        mode.say(f"no hooks in this process: {type(error).__name__}: {error}")


def install():
    """Changes nothing that the program has not imported."""
    from slimccl import active, names, patching, pauses, steps

    patching.on_import("torch.distributed.distributed_c10d", active.watch)
    patching.on_import("torch.distributed.distributed_c10d", names.watch)
    patching.on_import("torch.optim.optimizer", lambda module:
                       module.register_optimizer_step_post_hook(steps.after_optimizer))
    patching.on_import("deepspeed.runtime.engine", lambda module: patching.wrap(
        module.DeepSpeedEngine, "_take_model_step", steps.of_engine))
    patching.on_import("torch.distributed.checkpoint.state_dict", lambda module: patching.wrap(
        module, "_init_optim_state", steps.of_nothing))
    pauses.install()
