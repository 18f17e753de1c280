"""What the CPU kernels behind CUDA's operators promise; trainers_test.py runs it on emulated GPUs.
Each check compares with the CPU's own result, in all bits."""
import torch

CUDA = torch.device("cuda", 0)


def same(on_cuda, on_cpu):
    assert on_cuda.device == CUDA, on_cuda.device
    assert on_cuda.dtype == on_cpu.dtype and on_cuda.stride() == on_cpu.stride()
    assert torch.equal(on_cuda.cpu(), on_cpu), (on_cuda.cpu(), on_cpu)


def check_values():
    a, b = torch.randn(37, 19), torch.randn(19, 5)
    x, y = a.to(CUDA), b.to(CUDA)
    same(x @ y, a @ b)
    same(x.t().softmax(1), a.t().softmax(1))
    same(torch.cat([x, x[3:9]]), torch.cat([a, a[3:9]]))
    same(x.bfloat16().float(), a.bfloat16().float())
    same(x * 2.5 + 1, a * 2.5 + 1)
    same((x > 0) * 2, (a > 0) * 2)
    same(x[:0].sum(), a[:0].sum())


def check_in_place():
    a = torch.randn(8, 6)
    x = a.to(CUDA)
    before = x.data_ptr()
    assert x.t().add_(1) is not x and x.add_(1) is x and x.data_ptr() == before
    a.add_(1).add_(1)
    same(x, a)
    x[:, 2] = 7
    a[:, 2] = 7
    same(x, a)
    x.index_put_((torch.tensor([1, 3], device=CUDA),), torch.zeros(6, device=CUDA))
    a.index_put_((torch.tensor([1, 3]),), torch.zeros(6))
    same(x, a)
    torch._foreach_mul_([x, x[0]], 3.0)
    torch._foreach_mul_([a, a[0]], 3.0)
    same(x, a)


def check_out():
    a = torch.randn(4, 4)
    x = a.to(CUDA)
    fresh = torch.empty(0, device=CUDA)
    assert torch.mul(x, x, out=fresh) is fresh
    same(fresh, a * a)
    values, places = x.max(1)
    same(values, a.max(1).values)
    same(places, a.max(1).indices)


def check_random():
    torch.manual_seed(7)
    on_cuda = torch.rand(100, device=CUDA)
    torch.manual_seed(7)
    same(on_cuda, torch.rand(100))


def check_two_devices():
    x, y = torch.ones(3, device="cuda:0"), torch.ones(3, device="cuda:1")
    try:
        x + y
    except RuntimeError as error:
        assert "expected all tensors on cuda:0" in str(error), error
    else:
        raise AssertionError("tensors of two devices were added")
    assert torch.equal((x + y.to("cuda:0")).cpu(), torch.full((3,), 2.0))


def check_streams():
    """A copy that is still under way on another stream is seen once that stream is waited for."""
    side = torch.cuda.Stream()
    for turn in range(20):
        host = torch.full((1000,), float(turn)).pin_memory()
        x = torch.empty(1000, device=CUDA)
        torch.cuda.synchronize()
        with torch.cuda.stream(side):
            x.copy_(host, non_blocking=True)
        torch.cuda.current_stream().wait_stream(side)
        assert x.sum().item() == 1000 * turn


def check_gradients():
    a = torch.randn(5, 5, requires_grad=True)
    x = a.detach().to(CUDA).requires_grad_()
    (x.exp() @ x).sum().backward()
    (a.exp() @ a).sum().backward()
    same(x.grad, a.grad)


if __name__ == "__main__":
    torch.manual_seed(1)
    for name, check in sorted(globals().items()):
        if name.startswith("check_"):
            check()
            print(name, "ok", flush=True)
