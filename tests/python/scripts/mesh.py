"""A process group that nobody makes but a device mesh."""
import os

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh

torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
init_device_mesh("cuda", (int(os.environ["WORLD_SIZE"]),))
if dist.get_rank() == 0:
    print("parameters none", flush=True)
dist.barrier()
dist.destroy_process_group()
