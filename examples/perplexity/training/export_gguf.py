#!/usr/bin/env python3
"""Writes a checkpoint of train.py as a GGUF file.

    python3 export_gguf.py CHECKPOINT TOKENIZER OUTPUT

for example DATA/seven-layers.pt DATA/tokenizer.model books-5m-f16.gguf. The
file is GGUF version 3 of architecture llama: matrices in F16, norms in F32,
no output matrix (the embedding serves twice), and the tokenizer within.

A GGUF file is a header, metadata (keys with typed values), a description of
every tensor, and the tensors, each at a multiple of 32 bytes. Strings and
arrays are preceded by their length; shapes have the innermost dimension
first. Rotary embedding turns neighbouring dimensions, which is what readers
expect of this architecture: nothing has to be permuted.
"""

import argparse
import struct
from pathlib import Path

import numpy as np
import sentencepiece
import torch

from model import Config

VERSION = 3
ALIGNMENT = 32

# Types of metadata values, of tensors, and of tokens, by GGUF's numbers.
UINT32, INT32, FLOAT32, BOOL, STRING, ARRAY = 4, 5, 6, 7, 8, 9
TENSOR_F32, TENSOR_F16 = 0, 1
NORMAL_TOKEN, UNKNOWN_TOKEN, CONTROL_TOKEN, BYTE_TOKEN = 1, 2, 3, 6
MOSTLY_F16 = 1


def string(text: str) -> bytes:
    encoded = text.encode("utf-8")
    return struct.pack("<Q", len(encoded)) + encoded


def padding(size: int) -> bytes:
    return bytes(-size % ALIGNMENT)


class Metadata:
    """Keys and values, packed as they are added."""

    def __init__(self) -> None:
        self.count = 0
        self.packed = b""

    def add(self, key: str, value_type: int, packed: bytes) -> None:
        self.count += 1
        self.packed += string(key) + struct.pack("<I", value_type) + packed

    def text(self, key: str, value: str) -> None:
        self.add(key, STRING, string(value))

    def integer(self, key: str, value: int) -> None:
        self.add(key, UINT32, struct.pack("<I", value))

    def real(self, key: str, value: float) -> None:
        self.add(key, FLOAT32, struct.pack("<f", value))

    def boolean(self, key: str, value: bool) -> None:
        self.add(key, BOOL, struct.pack("<?", value))

    def array(self, key: str, element_type: int, elements: list[bytes]
              ) -> None:
        self.add(key, ARRAY, struct.pack("<IQ", element_type, len(elements))
                 + b"".join(elements))


def add_architecture(metadata: Metadata, name: str, config: Config) -> None:
    metadata.text("general.architecture", "llama")
    metadata.text("general.name", name)
    metadata.text("general.license", "mit")
    metadata.integer("general.file_type", MOSTLY_F16)
    metadata.integer("general.alignment", ALIGNMENT)
    metadata.integer("llama.context_length", config.context)
    metadata.integer("llama.embedding_length", config.width)
    metadata.integer("llama.block_count", config.layers)
    metadata.integer("llama.feed_forward_length", config.feed_forward)
    metadata.integer("llama.attention.head_count", config.heads)
    metadata.integer("llama.attention.head_count_kv", config.kv_heads)
    metadata.integer("llama.rope.dimension_count", config.head_size)
    metadata.integer("llama.vocab_size", config.vocabulary)
    metadata.real("llama.attention.layer_norm_rms_epsilon",
                  config.norm_epsilon)
    metadata.real("llama.rope.freq_base", config.rope_base)


def add_tokenizer(metadata: Metadata, path: Path) -> None:
    tokenizer = sentencepiece.SentencePieceProcessor(model_file=str(path))

    def token_type(token: int) -> int:
        if tokenizer.is_unknown(token):
            return UNKNOWN_TOKEN
        if tokenizer.is_control(token):
            return CONTROL_TOKEN
        return BYTE_TOKEN if tokenizer.is_byte(token) else NORMAL_TOKEN

    tokens = range(tokenizer.get_piece_size())
    metadata.text("tokenizer.ggml.model", "llama")
    metadata.array("tokenizer.ggml.tokens", STRING,
                   [string(tokenizer.id_to_piece(token)) for token in tokens])
    metadata.array("tokenizer.ggml.scores", FLOAT32,
                   [struct.pack("<f", tokenizer.get_score(token))
                    for token in tokens])
    metadata.array("tokenizer.ggml.token_type", INT32,
                   [struct.pack("<i", token_type(token)) for token in tokens])
    metadata.integer("tokenizer.ggml.bos_token_id", tokenizer.bos_id())
    metadata.integer("tokenizer.ggml.eos_token_id", tokenizer.eos_id())
    metadata.integer("tokenizer.ggml.unknown_token_id", tokenizer.unk_id())
    metadata.boolean("tokenizer.ggml.add_bos_token", True)
    metadata.boolean("tokenizer.ggml.add_eos_token", False)
    metadata.boolean("tokenizer.ggml.add_space_prefix", True)


def pack_tensors(tensors: dict[str, np.ndarray]) -> tuple[bytes, bytes]:
    """The descriptions of the tensors, and the tensors."""
    descriptions, packed = b"", b""
    for name, tensor in tensors.items():
        half = tensor.ndim == 2
        shape = tensor.shape[::-1]
        descriptions += string(name) + struct.pack(
            f"<I{len(shape)}QIQ", len(shape), *shape,
            TENSOR_F16 if half else TENSOR_F32, len(packed))
        data = tensor.astype("<f2" if half else "<f4").tobytes()
        packed += data + padding(len(data))
    return descriptions, packed


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("tokenizer", type=Path)
    parser.add_argument("output", type=Path)
    arguments = parser.parse_args()

    checkpoint = torch.load(arguments.checkpoint, map_location="cpu")
    metadata = Metadata()
    add_architecture(metadata, arguments.output.stem,
                     Config(**checkpoint["config"]))
    add_tokenizer(metadata, arguments.tokenizer)
    tensors = {name: tensor.numpy()
               for name, tensor in checkpoint["model"].items()}
    descriptions, packed = pack_tensors(tensors)

    header = b"GGUF" + struct.pack("<IQQ", VERSION, len(tensors),
                                   metadata.count)
    header += metadata.packed + descriptions
    header += padding(len(header))
    arguments.output.write_bytes(header + packed)
    print(f"{arguments.output}: {len(header) + len(packed):,} bytes")


if __name__ == "__main__":
    main()
