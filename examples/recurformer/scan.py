"""The linear recurrence h[t] = a[t] * h[t - 1] + b[t] over a whole sequence.

    h = scan(a, b)              # (rows, length, ...), h[-1] = 0

A loop over time would be thousands of tiny operations. Here the sequence is
cut into chunks, and every step works on all chunks at once:

 1. run all chunks from h = 0, to learn what each adds;
 2. run over the chunks: the state at the end of each from the state before;
 3. run all chunks again, each from its true state.

For L tokens in chunks of sqrt(L) that is 3 sqrt(L) operations instead of L.
Nothing is divided and no logarithm is taken, so decays near 0 do no harm.
A GPU would do the same with one kernel (Mamba's fused scan), which never
writes a and b to memory.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional


def chunk_length(length: int) -> int:
    return max(1, math.isqrt(length))


def in_chunks(x: Tensor, size: int, fill: float) -> Tensor:
    """(rows, length, ...) -> (rows, chunks, size, ...), filled at the end."""
    missing = -x.shape[1] % size
    if missing:
        x = torch.cat([x, x.new_full((len(x), missing, *x.shape[2:]), fill)],
                      1)
    return x.unflatten(1, (-1, size))


class Scan(torch.autograd.Function):
    @staticmethod
    def forward(ctx, a: Tensor, b: Tensor) -> Tensor:
        length, size = a.shape[1], chunk_length(a.shape[1])
        a, b = in_chunks(a, size, 1), in_chunks(b, size, 0)
        end = b[:, :, 0]
        for step in range(1, size):
            end = torch.addcmul(b[:, :, step], a[:, :, step], end)
        decay = a.prod(2)
        begin = torch.zeros_like(end)
        for chunk in range(1, a.shape[1]):
            torch.addcmul(end[:, chunk - 1], decay[:, chunk - 1],
                          begin[:, chunk - 1], out=begin[:, chunk])
        h = torch.empty_like(b)
        state = begin
        for step in range(size):
            state = torch.addcmul(b[:, :, step], a[:, :, step], state)
            h[:, :, step] = state
        h = h.flatten(1, 2)[:, :length]
        ctx.save_for_backward(a, decay, h)
        return h

    @staticmethod
    def backward(ctx, upstream: Tensor) -> tuple[Tensor, Tensor]:
        """The same recurrence, from the end: g[t] is the gradient of h[t].

        g[t] = upstream[t] + a[t + 1] * g[t + 1]; carried is a[t] * g[t].
        """
        a, decay, h = ctx.saved_tensors
        length, size = upstream.shape[1], a.shape[2]
        upstream = in_chunks(upstream, size, 0)
        carried = torch.zeros_like(upstream[:, :, 0])
        for step in reversed(range(size)):
            carried = a[:, :, step] * (upstream[:, :, step] + carried)
        after = torch.zeros_like(carried)
        for chunk in reversed(range(a.shape[1] - 1)):
            torch.addcmul(carried[:, chunk + 1], decay[:, chunk + 1],
                          after[:, chunk + 1], out=after[:, chunk])
        g = torch.empty_like(a)
        carried = after
        for step in reversed(range(size)):
            torch.add(upstream[:, :, step], carried, out=g[:, :, step])
            carried = a[:, :, step] * g[:, :, step]
        g = g.flatten(1, 2)[:, :length]
        before = functional.pad(h[:, :-1], [0, 0] * (h.ndim - 2) + [1, 0])
        return g * before, g


def scan(a: Tensor, b: Tensor) -> Tensor:
    return Scan.apply(a, b)


def check() -> None:
    """Compares with a loop over time, and the gradients with differences."""
    torch.manual_seed(1)
    for length in (1, 2, 5, 16, 50):
        a = torch.rand(2, length, 3, dtype=torch.double, requires_grad=True)
        b = torch.randn(2, length, 3, dtype=torch.double, requires_grad=True)
        state, expected = torch.zeros(2, 3, dtype=torch.double), []
        for step in range(length):
            state = a[:, step] * state + b[:, step]
            expected.append(state)
        torch.testing.assert_close(scan(a, b), torch.stack(expected, 1))
        torch.autograd.gradcheck(scan, (a, b))
    print("scan agrees with a loop, its gradients with differences")


if __name__ == "__main__":
    check()
