"""Reads and writes GGUF files with tensors in F16 and F32.

    file = read("model.gguf")
    file.values["llama.block_count"]            # metadata, in order
    file.tensors["blk.0.attn_q.weight"]         # numpy, float32
    write("copy.gguf", file.entries, file.tensors, {"blk.0.attn_q.weight"})

Metadata that is only passed on, such as a tokenizer, is kept as it lies in
the file: `entries` has the type and the bytes of every key.
"""

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

VERSION = 3
ALIGNMENT = 32
UINT32, FLOAT32, STRING, ARRAY = 4, 6, 8, 9
FORMATS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f",
           7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
TENSOR_F32, TENSOR_F16 = 0, 1
TENSOR_TYPES = {TENSOR_F32: "<f4", TENSOR_F16: "<f2"}

Entry = tuple[int, bytes]  # type and packed value


@dataclass
class File:
    entries: dict[str, Entry]
    values: dict[str, object]
    tensors: dict[str, np.ndarray]


class Reader:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.place = 0

    def number(self, form: str):
        value, = struct.unpack_from(form, self.data, self.place)
        self.place += struct.calcsize(form)
        return value

    def string(self) -> str:
        size = self.number("<Q")
        self.place += size
        return self.data[self.place - size:self.place].decode("utf-8")

    def value(self, kind: int):
        if kind == STRING:
            return self.string()
        if kind == ARRAY:
            element, count = self.number("<I"), self.number("<Q")
            return [self.value(element) for _ in range(count)]
        return self.number(FORMATS[kind])


def read(path: Path) -> File:
    reader = Reader(Path(path).read_bytes())
    if reader.data[:4] != b"GGUF":
        raise SystemExit(f"{path}: is not a GGUF file")
    reader.place = 4
    version, tensor_count = reader.number("<I"), reader.number("<Q")
    if version != VERSION:
        raise SystemExit(f"{path}: GGUF version must be {VERSION}, "
                         f"is {version}")
    file = File({}, {}, {})
    for _ in range(reader.number("<Q")):
        key, kind = reader.string(), reader.number("<I")
        start = reader.place
        file.values[key] = reader.value(kind)
        file.entries[key] = (kind, reader.data[start:reader.place])

    descriptions = []
    for _ in range(tensor_count):
        name, dimensions = reader.string(), reader.number("<I")
        shape = [reader.number("<Q") for _ in range(dimensions)]
        descriptions.append((name, shape[::-1], reader.number("<I"),
                             reader.number("<Q")))
    alignment = file.values.get("general.alignment", ALIGNMENT)
    begin = -(-reader.place // alignment) * alignment
    for name, shape, kind, offset in descriptions:
        if kind not in TENSOR_TYPES:
            raise SystemExit(f"{path}: tensor {name} must be F32 or F16, "
                             f"is of type {kind}")
        count = int(np.prod(shape))
        values = np.frombuffer(reader.data, TENSOR_TYPES[kind], count,
                               begin + offset)
        file.tensors[name] = values.astype(np.float32).reshape(shape)
    return file


def packed_string(text: str) -> bytes:
    encoded = text.encode("utf-8")
    return struct.pack("<Q", len(encoded)) + encoded


def text(value: str) -> Entry:
    return STRING, packed_string(value)


def integer(value: int) -> Entry:
    return UINT32, struct.pack("<I", value)


def integers(values: list[int]) -> Entry:
    return ARRAY, struct.pack(f"<IQ{len(values)}I", UINT32, len(values),
                              *values)


def write(path: Path, entries: dict[str, Entry],
          tensors: dict[str, np.ndarray], half: set[str]) -> None:
    """Tensors whose names are in `half` are stored in F16, others in F32."""
    def padding(size: int) -> bytes:
        return bytes(-size % ALIGNMENT)

    entries = {**entries, "general.alignment": integer(ALIGNMENT)}
    header = b"GGUF" + struct.pack("<IQQ", VERSION, len(tensors),
                                   len(entries))
    for key, (kind, packed) in entries.items():
        header += packed_string(key) + struct.pack("<I", kind) + packed
    body = b""
    for name, tensor in tensors.items():
        kind = TENSOR_F16 if name in half else TENSOR_F32
        shape = tensor.shape[::-1]
        header += packed_string(name) + struct.pack(
            f"<I{len(shape)}QIQ", len(shape), *shape, kind, len(body))
        data = tensor.astype(TENSOR_TYPES[kind]).tobytes()
        body += data + padding(len(data))
    header += padding(len(header))
    Path(path).write_bytes(header + body)
