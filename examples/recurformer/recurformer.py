"""A Llama some of whose heads are served by recurrent cells.

    model = Recurformer(config, Replaced(heads=(9, 12, 13)))
    logits = model(tokens)      # (rows, length) -> (rows, length, vocabulary)

Modules are named as the tensors of the GGUF file, which README.md describes.
Without replaced heads this is the Llama of ../perplexity/training/model.py.
"""

import math
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from scan import scan

sys.path.append(str(Path(__file__).resolve().parent.parent / "perplexity"
                    / "training"))
from model import Config, RMSNorm, rotate, rotations  # noqa: E402


@dataclass
class Replaced:
    """Which heads are replaced (layer * heads + head, rising), and by what.
    """
    heads: tuple[int, ...] = ()
    cell: str = "selective"
    expansion: int = 1
    state_size: int = 8
    convolution: int = 4
    delta_rank: int = 16


class Weight(nn.Module):
    """A parameter with a name of its own in the file."""

    def __init__(self, values: Tensor, bias: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(values)
        if bias:
            self.bias = nn.Parameter(torch.zeros(len(values)))


class Selective(nn.Module):
    """Mamba's S6 block (Gu and Dao, arXiv 2312.00752)."""

    def __init__(self, width: int, outputs: int, shape: Replaced) -> None:
        super().__init__()
        inner, states = shape.expansion * outputs, shape.state_size
        self.sizes = [shape.delta_rank, states, states]
        self.input = nn.Linear(width, 2 * inner, bias=False)
        spread = 1 / math.sqrt(shape.convolution)
        self.convolution = Weight(
            torch.empty(inner, shape.convolution).uniform_(-spread, spread),
            bias=True)
        self.selection = nn.Linear(inner, sum(self.sizes), bias=False)
        self.delta = nn.Linear(shape.delta_rank, inner)
        self.decay = Weight(torch.arange(1., states + 1).log()
                            .repeat(inner, 1))
        self.skip = Weight(torch.ones(inner))
        self.output = nn.Linear(inner, outputs, bias=False)
        # Steps from 0.001 to 0.1, evenly in the logarithm, as in Mamba.
        step = torch.exp(torch.empty(inner).uniform_(math.log(1e-3),
                                                     math.log(1e-1)))
        with torch.no_grad():
            self.delta.bias.copy_(step + torch.log(-torch.expm1(-step)))

    def convolve(self, u: Tensor) -> Tensor:
        kernel = self.convolution.weight
        u = functional.pad(u, (0, 0, kernel.shape[1] - 1, 0)).transpose(1, 2)
        return functional.conv1d(u, kernel[:, None], self.convolution.bias,
                                 groups=len(kernel)).transpose(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        u, z = self.input(x).chunk(2, -1)
        u = functional.silu(self.convolve(u))
        low, b, c = self.selection(u).split(self.sizes, -1)
        delta = functional.softplus(self.delta(low))
        decays = torch.exp(delta[..., None] * -torch.exp(self.decay.weight))
        h = scan(decays, (delta * u)[..., None] * b[..., None, :])
        y = (h @ c[..., None])[..., 0] + self.skip.weight * u
        return self.output(y * functional.silu(z))


class MinGRU(nn.Module):
    """The vanilla form of Feng et al., arXiv 2410.01201."""

    def __init__(self, width: int, outputs: int, _: Replaced) -> None:
        super().__init__()
        self.gate = nn.Linear(width, outputs)
        self.candidate = nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        z = torch.sigmoid(self.gate(x))
        return scan(1 - z, z * self.candidate(x))


CELLS = {"selective": Selective, "min_gru": MinGRU}


class Block(nn.Module):
    def __init__(self, config: Config, shape: Replaced, layer: int) -> None:
        super().__init__()
        self.size, width = config.head_size, config.width
        all_heads = range(config.heads)
        gone = [head for head in all_heads
                if layer * config.heads + head in shape.heads]
        left = [head for head in all_heads if head not in gone]
        group = config.heads // config.kv_heads
        # KV heads that serve no head that attends are left out.
        self.kv_heads = sorted({head // group for head in left})
        self.heads = left
        self.kv_of_head = [self.kv_heads.index(head // group)
                           for head in left]
        self.order = sorted(all_heads, key=(left + gone).__getitem__)
        self.windows = None  # heads that see few tokens, and how many

        self.attn_norm = RMSNorm(width, config.norm_epsilon)
        if left:
            kv_width = len(self.kv_heads) * self.size
            self.attn_q = nn.Linear(width, len(left) * self.size, bias=False)
            self.attn_k = nn.Linear(width, kv_width, bias=False)
            self.attn_v = nn.Linear(width, kv_width, bias=False)
        self.attn_output = nn.Linear(config.heads * self.size, width,
                                     bias=False)
        self.replaced = None
        if gone:
            self.replaced = CELLS[shape.cell](width, len(gone) * self.size,
                                              shape)
        self.ffn_norm = RMSNorm(width, config.norm_epsilon)
        self.ffn_gate = nn.Linear(width, config.feed_forward, bias=False)
        self.ffn_up = nn.Linear(width, config.feed_forward, bias=False)
        self.ffn_down = nn.Linear(config.feed_forward, width, bias=False)

    def mask(self, length: int, device: torch.device) -> Tensor:
        mask = torch.full((length, length), -torch.inf, device=device).triu(1)
        if self.windows is None:
            return mask
        heads, tokens = self.windows
        far = torch.full_like(mask, -torch.inf).tril(-tokens)
        return torch.stack([mask + far if head in heads else mask
                            for head in self.heads])

    def attend(self, x: Tensor, turns: Tensor) -> Tensor:
        def heads(projected: Tensor) -> Tensor:  # (rows, heads, length, size)
            return projected.unflatten(-1, (-1, self.size)).transpose(1, 2)

        queries = rotate(heads(self.attn_q(x)), turns)
        keys = rotate(heads(self.attn_k(x)), turns)[:, self.kv_of_head]
        values = heads(self.attn_v(x))[:, self.kv_of_head]
        scores = queries / math.sqrt(self.size) @ keys.transpose(-1, -2)
        mask = self.mask(x.shape[1], x.device)
        return ((scores + mask).softmax(-1) @ values).transpose(1, 2)

    def head_outputs(self, x: Tensor, turns: Tensor) -> Tensor:
        """What all heads give to the output projection, (..., heads, size).
        """
        parts = []
        if self.heads:
            parts.append(self.attend(x, turns))
        if self.replaced is not None:
            parts.append(self.replaced(x).unflatten(-1, (-1, self.size)))
        return torch.cat(parts, 2)[:, :, self.order]

    def forward(self, x: Tensor, turns: Tensor, seen: list | None) -> Tensor:
        normal = self.attn_norm(x)
        outputs = self.head_outputs(normal, turns)
        if seen is not None:
            seen.append((normal, outputs))
        x = x + self.attn_output(outputs.flatten(-2))
        h = self.ffn_norm(x)
        gated = functional.silu(self.ffn_gate(h)) * self.ffn_up(h)
        return x + self.ffn_down(gated)


class Recurformer(nn.Module):
    def __init__(self, config: Config, shape: Replaced = Replaced()) -> None:
        super().__init__()
        self.config, self.shape = config, shape
        self.token_embd = nn.Embedding(config.vocabulary, config.width)
        self.blk = nn.ModuleList(Block(config, shape, layer)
                                 for layer in range(config.layers))
        self.output_norm = RMSNorm(config.width, config.norm_epsilon)
        self.register_buffer("turns", rotations(config), persistent=False)

    def hidden(self, tokens: Tensor, seen: list | None = None) -> Tensor:
        """`seen` gets, for each layer, the input and outputs of its heads."""
        x = self.token_embd(tokens)
        for block in self.blk:
            x = block(x, self.turns[:tokens.shape[-1]], seen)
        return x

    def forward(self, tokens: Tensor) -> Tensor:
        return functional.linear(self.output_norm(self.hidden(tokens)),
                                 self.token_embd.weight)

    def state_bytes(self) -> int:
        """Of the cells of one sequence, in float32."""
        total = 0
        for block in self.blk:
            if isinstance(block.replaced, Selective):
                inner = len(block.replaced.skip.weight)
                total += 4 * inner * (self.shape.state_size
                                      + self.shape.convolution - 1)
            elif block.replaced is not None:
                total += 4 * len(block.replaced.gate.bias)
        return total

    def token_bytes(self) -> int:
        """Of the keys and values of one token, in float32."""
        return sum(2 * 4 * len(block.kv_heads) * block.size
                   for block in self.blk)
