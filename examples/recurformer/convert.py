#!/usr/bin/env python3
"""Replaces heads of a Llama by recurrent cells, and trains the result.

    perplexity --profile --near 32 --text TEXT --json heads.json
    python3 convert.py MODEL heads.json DATA OUTPUT --shares 0 0.25 0.5

MODEL is a GGUF file of architecture llama in F16 or F32. DATA is a folder
with train.npy and synthetic rows, made by ../perplexity/training. For every
share of heads two files appear in the folder OUTPUT: SHARE-imitated.gguf and
SHARE.gguf. A file that is there already is not made again.

 1. The heads that look nearest are chosen from the profile.
 2. Imitation: each cell learns, alone, what the heads that it replaces give
    to the output projection. The original model runs once for all shares.
 3. Continued training: the whole model learns to predict text. Share 0 is
    the control: the original model with the same training.
"""

import argparse
import json
import time
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

import gguf_file
from recurformer import CELLS, Config, Recurformer, Replaced
from train import RECALL, Phase, Sequences, losses

SEED = 1
SYNTHETIC = 0.25  # share of the rows that reward a long memory
IMITATION_RATE = 1e-2  # Adam's learning rate
CELL_RATE = 3e-4  # in continued training
MODEL_RATE = 3e-5  # in continued training: of what was trained before
WARM_UP = 10  # steps
LEAST_RATE = 0.05  # of the rate, at the end of a cosine
REPORT_EVERY = 20


def config_of(values: dict[str, object]) -> Config:
    def value(key: str):
        return values[f"{values['general.architecture']}.{key}"]

    return Config(
        vocabulary=len(values["tokenizer.ggml.tokens"]),
        context=value("context_length"), width=value("embedding_length"),
        layers=value("block_count"), heads=value("attention.head_count"),
        kv_heads=value("attention.head_count_kv"),
        feed_forward=value("feed_forward_length"),
        norm_epsilon=value("attention.layer_norm_rms_epsilon"),
        rope_base=value("rope.freq_base"))


def replaced_of(values: dict[str, object]) -> Replaced:
    prefix = "recurformer.replaced_heads."
    found = {key[len(prefix):]: value for key, value in values.items()
             if key.startswith(prefix)}
    found["heads"] = tuple(found.get("heads", ()))
    return Replaced(**found)


def load(path: Path) -> Recurformer:
    """A model from a file of architecture llama or recurformer."""
    file = gguf_file.read(path)
    architecture = file.values["general.architecture"]
    if architecture not in ("llama", "recurformer"):
        raise SystemExit(f"{path}: general.architecture must be llama or "
                         f"recurformer, is {architecture}")
    model = Recurformer(config_of(file.values), replaced_of(file.values))
    model.load_state_dict({name: torch.from_numpy(tensor)
                           for name, tensor in file.tensors.items()})
    return model


def save(path: Path, model: Recurformer, original: gguf_file.File) -> None:
    shape, entries = model.shape, {}
    for key, entry in original.entries.items():
        entries[key.replace("llama.", "recurformer.", 1)
                if key.startswith("llama.") else key] = entry
    entries["general.architecture"] = gguf_file.text("recurformer")
    if not shape.heads:
        entries = dict(original.entries)
    else:
        prefix = "recurformer.replaced_heads."
        entries[prefix + "heads"] = gguf_file.integers(list(shape.heads))
        entries[prefix + "cell"] = gguf_file.text(shape.cell)
        if shape.cell == "selective":
            for name in ("expansion", "state_size", "convolution",
                         "delta_rank"):
                entries[prefix + name] = gguf_file.integer(
                    getattr(shape, name))
    tensors = {name: tensor.numpy()
               for name, tensor in model.state_dict().items()}
    half = {name for name, tensor in tensors.items() if tensor.ndim == 2
            and "convolution" not in name and "decay" not in name}
    gguf_file.write(path, entries, tensors, half)


def choose(profile: dict, share: float) -> tuple[int, ...]:
    """The heads to replace: whole groups, the nearest first.

    A group of query heads shares the keys and values of a KV head, and these
    are saved only if the whole group goes. So groups are ranked, by the mean
    of their heads; what is left of the number wanted, less than a group, is
    filled with the nearest single heads, which save no cache.
    """
    count = profile["query_heads"]
    wanted = round(share * profile["layers"] * count)
    groups: dict[tuple[int, int], list[dict]] = {}
    for head in profile["heads"]:
        groups.setdefault((head["layer"], head["kv_head"]), []).append(head)
    ranked = sorted(groups.values(), key=lambda group: -sum(
        head["near"] for head in group) / len(group))
    chosen: list[int] = []
    for group in ranked:
        if len(chosen) + len(group) > wanted:
            break
        chosen += [head["layer"] * count + head["head"] for head in group]
    for head in profile["heads"]:  # by rank
        number = head["layer"] * count + head["head"]
        if len(chosen) < wanted and number not in chosen:
            chosen.append(number)
    return tuple(sorted(chosen))


def convert(original: Recurformer, shape: Replaced) -> Recurformer:
    """The original's weights, without what is replaced; cells untrained."""
    model = Recurformer(original.config, shape)
    size = original.config.head_size
    weights = original.state_dict()
    for layer, block in enumerate(model.blk):
        for name, heads in (("attn_q", block.heads),
                            ("attn_k", block.kv_heads),
                            ("attn_v", block.kv_heads)):
            key = f"blk.{layer}.{name}.weight"
            weights[key] = weights[key].unflatten(0, (-1, size))[
                heads].flatten(0, 1)
            if not heads:
                del weights[key]
    model.load_state_dict(weights, strict=False)
    return model


def rate_of(step: int, steps: int) -> float:
    """What share of the learning rates a step uses."""
    if step < WARM_UP:
        return (step + 1) / WARM_UP
    turn = torch.tensor(torch.pi * (step - WARM_UP) / (steps - WARM_UP))
    return LEAST_RATE + (1 - LEAST_RATE) * (1 + turn.cos().item()) / 2


class Trainer:
    """Adam with a schedule, over groups of parameters and their rates."""

    def __init__(self, groups: list[tuple[list[Tensor], float]],
                 steps: int) -> None:
        self.steps, self.done = steps, 0
        self.groups = [group for group in groups if group[0]]
        self.adam = torch.optim.Adam(
            [{"params": parameters} for parameters, _ in self.groups],
            betas=(0.9, 0.95))

    def step(self) -> None:
        for group, (parameters, rate) in zip(self.adam.param_groups,
                                             self.groups):
            clip_grad_norm_(parameters, 1.0)
            group["lr"] = rate * rate_of(self.done, self.steps)
        self.adam.step()
        self.adam.zero_grad()
        self.done += 1


def cells_of(model: Recurformer) -> list[Tensor]:
    return [parameter for name, parameter in model.named_parameters()
            if ".replaced." in name]


def imitation_errors(model: Recurformer, seen: list) -> list[Tensor]:
    """For each layer with a cell: the squared error of its outputs, as a
    share of the variance of what the heads gave.
    """
    errors = []
    for layer, (block, (normal, outputs)) in enumerate(zip(model.blk, seen)):
        if block.replaced is None:
            continue
        gone = [head for head in range(model.config.heads)
                if head not in block.heads]
        target = outputs[:, :, gone].flatten(-2)
        error = (block.replaced(normal) - target).square().mean()
        errors.append(error / target.var())
    return errors


def imitate(original: Recurformer, models: list[Recurformer],
            sequences: Sequences, phase: Phase) -> None:
    trainers = [Trainer([(cells_of(model), IMITATION_RATE)], phase.steps)
                for model in models]
    start = time.time()
    for step in range(phase.steps):
        tokens = (sequences.batch(phase, step) & ~RECALL)[:, :-1]
        seen: list = []
        with torch.no_grad():
            original.hidden(tokens, seen)
        report = []
        for model, trainer in zip(models, trainers):
            errors = imitation_errors(model, seen)
            sum(errors).backward()
            trainer.step()
            report.append(" ".join(f"{error.item():.3f}" for error in errors))
        if (step + 1) % REPORT_EVERY == 0:
            print(f"imitation step {step + 1}, "
                  f"{time.time() - start:.0f} s: unexplained share of the "
                  f"variance by layer: {'; '.join(report)}", flush=True)


def train(model: Recurformer, name: str, sequences: Sequences,
          phase: Phase, bf16: bool) -> None:
    cells = cells_of(model)
    known = {id(parameter) for parameter in cells}
    rest = [parameter for parameter in model.parameters()
            if id(parameter) not in known]
    trainer = Trainer([(cells, CELL_RATE), (rest, MODEL_RATE)], phase.steps)
    start, recent = time.time(), []
    for step in range(phase.steps):
        rows = sequences.batch(phase, step + 1_000_000)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = losses(model, rows).mean()
        loss.backward()
        recent.append(loss.item())
        trainer.step()
        if (step + 1) % REPORT_EVERY == 0:
            print(f"share {name}, step {step + 1}, "
                  f"{time.time() - start:.0f} s: "
                  f"loss {sum(recent) / len(recent):.4f}", flush=True)
            recent.clear()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("profile", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--shares", type=float, nargs="+",
                        default=[0, 0.25, 0.5, 0.75, 0.9, 1])
    parser.add_argument("--cell", choices=list(CELLS), default="selective")
    parser.add_argument("--imitation-steps", type=int, default=300)
    parser.add_argument("--steps", type=int, default=120,
                        help="of continued training; 1,024 tokens each")
    parser.add_argument("--length", type=int, default=512,
                        help="of a row in continued training")
    parser.add_argument("--bf16", action="store_true",
                        help="multiply in bfloat16 in continued training: "
                        "twice as fast on a CPU that can")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    for share in arguments.shares:
        if not 0 <= share <= 1:
            raise SystemExit(f"--shares must be from 0 to 1, has {share}")
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(SEED)

    file = gguf_file.read(arguments.model)
    original = load(arguments.model)
    profile = json.loads(arguments.profile.read_text())
    imitation = Phase(512, arguments.imitation_steps, 1024, SYNTHETIC)
    training = Phase(arguments.length, arguments.steps, 1024, SYNTHETIC)
    sequences = Sequences(arguments.data, (imitation, training))
    arguments.output.mkdir(parents=True, exist_ok=True)

    models = {}
    for share in arguments.shares:
        name = f"{100 * share:g}"
        if arguments.cell != "selective":
            name += "-" + arguments.cell
        models[name] = convert(original, Replaced(choose(profile, share),
                                                  arguments.cell))
        print(f"share {name}: heads {models[name].shape.heads}; "
              f"{models[name].token_bytes()} bytes per token, "
              f"{models[name].state_bytes()} bytes of states", flush=True)

    def imitated(name: str) -> Path:
        return arguments.output / f"{name}-imitated.gguf"

    waiting = [name for name in models if models[name].shape.heads
               and not imitated(name).exists()]
    if waiting:
        imitate(original, [models[name] for name in waiting], sequences,
                imitation)
    for name in waiting:
        save(imitated(name), models[name], file)
    for name, model in models.items():
        path = arguments.output / f"{name}.gguf"
        if path.exists():
            continue
        if model.shape.heads:
            model = load(imitated(name))
        train(model, name, sequences, training, arguments.bf16)
        save(path, model, file)


if __name__ == "__main__":
    main()
