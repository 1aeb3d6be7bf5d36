"""A Llama in PyTorch, which train.py trains and export_gguf.py writes.

    model = Llama(Config())
    logits = model(tokens)      # (rows, length) -> (rows, length, vocabulary)

The defaults of Config are those of the first stage. Modules are named as GGUF
names its tensors (blk.0.attn_q.weight and so on), so that a checkpoint's
names are the file's. Input and output share their embedding.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass
class Config:
    vocabulary: int = 2048
    context: int = 2048
    width: int = 256
    layers: int = 5
    heads: int = 8
    kv_heads: int = 4
    feed_forward: int = 640
    norm_epsilon: float = 1e-5
    rope_base: float = 10000.0

    @property
    def head_size(self) -> int:
        return self.width // self.heads


class Record(NamedTuple):
    """What the attention of a layer did."""
    attention: Tensor  # (rows, heads, length, length)
    contribution: Tensor  # see Block.contribution


class RMSNorm(nn.Module):
    def __init__(self, width: int, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        square = x.square().mean(-1, keepdim=True)
        return x * torch.rsqrt(square + self.epsilon) * self.weight


def rotations(config: Config) -> Tensor:
    """For each position and pair of dimensions, a turn as a complex number."""
    pairs = torch.arange(config.head_size // 2, dtype=torch.float64)
    frequencies = config.rope_base ** (-2 * pairs / config.head_size)
    positions = torch.arange(config.context, dtype=torch.float64)
    angles = torch.outer(positions, frequencies)
    return torch.polar(torch.ones_like(angles), angles).to(torch.complex64)


def rotate(x: Tensor, turns: Tensor) -> Tensor:
    """Turns neighbouring dimensions (0, 1), (2, 3), ... of every head."""
    pairs = torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2))
    return torch.view_as_real(pairs * turns).flatten(-2)


class Block(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        width, feed_forward = config.width, config.feed_forward
        kv_width = config.kv_heads * config.head_size
        self.attn_norm = RMSNorm(width, config.norm_epsilon)
        self.attn_q = nn.Linear(width, width, bias=False)
        self.attn_k = nn.Linear(width, kv_width, bias=False)
        self.attn_v = nn.Linear(width, kv_width, bias=False)
        self.attn_output = nn.Linear(width, width, bias=False)
        self.ffn_norm = RMSNorm(width, config.norm_epsilon)
        self.ffn_gate = nn.Linear(width, feed_forward, bias=False)
        self.ffn_up = nn.Linear(width, feed_forward, bias=False)
        self.ffn_down = nn.Linear(feed_forward, width, bias=False)

    def attention(self, x: Tensor, turns: Tensor, mask: Tensor,
                  records: list[Record] | None) -> Tensor:
        size = self.config.head_size
        normal = self.attn_norm(x)

        def heads(projected: Tensor) -> Tensor:  # (rows, heads, length, size)
            return projected.unflatten(-1, (-1, size)).transpose(1, 2)

        queries = rotate(heads(self.attn_q(normal)), turns)
        keys = rotate(heads(self.attn_k(normal)), turns)
        values = heads(self.attn_v(normal))
        group = self.config.heads // self.config.kv_heads
        keys = keys.repeat_interleave(group, dim=1)
        values = values.repeat_interleave(group, dim=1)
        scores = queries @ keys.transpose(-1, -2) / math.sqrt(size) + mask
        attention = scores.softmax(-1)
        if records is not None:
            records.append(Record(
                attention, self.contribution(attention, values, x)))
        mixed = attention @ values
        return self.attn_output(mixed.transpose(1, 2).flatten(-2))

    def contribution(self, attention: Tensor, values: Tensor, x: Tensor
                     ) -> Tensor:
        """How much the heads add to a token, relative to the token itself.

        The attention-weighted mean of the norms of the values, times the gain
        of the head's output matrix, over the norm of the hidden state x; the
        sum over heads, the mean over tokens. Gain and norm of x are taken as
        they are: training is not to change them.
        """
        norms = (values.square().sum(-1, keepdim=True) + 1e-12).sqrt()
        output = self.attn_output.weight.detach()
        output = output.unflatten(1, (-1, self.config.head_size))
        gains = output.square().mean(-1).sum(0).sqrt()
        added = torch.einsum("rhti,h->rt", attention @ norms, gains)
        return (added / x.detach().norm(dim=-1)).mean()

    def forward(self, x: Tensor, turns: Tensor, mask: Tensor,
                records: list[Record] | None) -> Tensor:
        x = x + self.attention(x, turns, mask, records)
        h = self.ffn_norm(x)
        gated = functional.silu(self.ffn_gate(h)) * self.ffn_up(h)
        return x + self.ffn_down(gated)


class Llama(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.token_embd = nn.Embedding(config.vocabulary, config.width)
        self.blk = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.output_norm = RMSNorm(config.width, config.norm_epsilon)
        self.register_buffer("turns", rotations(config), persistent=False)
        self.initialize()

    def initialize(self) -> None:
        nn.init.normal_(self.token_embd.weight, std=0.02)
        for block in self.blk:
            for name, layer in block.named_children():
                if isinstance(layer, nn.Linear):
                    deviation = 0.6 / math.sqrt(layer.in_features)
                    if name in ("attn_output", "ffn_down"):
                        deviation /= math.sqrt(2 * self.config.layers)
                    nn.init.normal_(layer.weight, std=deviation)

    def forward(self, tokens: Tensor,
                records: list[Record] | None = None) -> Tensor:
        """A list, if given, receives one record per layer."""
        length = tokens.shape[-1]
        mask = torch.full((length, length), -torch.inf,
                          device=tokens.device).triu(1)
        x = self.token_embd(tokens)
        for block in self.blk:
            x = block(x, self.turns[:length], mask, records)
        return functional.linear(self.output_norm(x), self.token_embd.weight)
