"""A face detector in YuNet's form, written by hand: the faces of the tiny planet are magenta.

An ONNX file is a protocol buffer; the few messages it needs are spelled out here. Each cell of 8 x 8 pixels that is
magenta becomes a face of 8 x 8 pixels; the coarser strides see nothing.
"""
from pathlib import Path

import numpy as np

SIDE = 640
FLOAT, INT64 = 1, 7  # TensorProto's data types
INTS = 7  # AttributeProto's type of a list
MAGENTA = (255, 0, 255)


def write(path: Path) -> str:
    """Write the detector and return its path."""
    nodes, tensors, outputs = [], [], []
    for stride in (8, 16, 32):
        seen = np.zeros((1, 3, stride, stride), np.float32)
        seen[:, :] = np.array([0.5, -1, 0.5], np.float32).reshape(1, 3, 1, 1) * (stride == 8) / (255 * stride**2) * 40
        cells = (SIDE // stride) ** 2
        for name, kernel, bias in (("cls", seen, -20), ("obj", seen, -20), ("bbox", np.zeros((4, *seen.shape[1:])), 0),
                                   ("kps", np.zeros((10, *seen.shape[1:])), 0)):
            one, channels = f"{name}_{stride}", len(kernel)
            tensors += [tensor(f"w_{one}", kernel.astype(np.float32)),
                        tensor(f"b_{one}", np.full(channels, bias, np.float32)),
                        tensor(f"s_{one}", np.array([1, cells, channels], np.int64))]
            nodes += [node("Conv", ["input", f"w_{one}", f"b_{one}"], f"c_{one}", kernel_shape=[stride, stride],
                           strides=[stride, stride]),
                      node("Sigmoid", [f"c_{one}"], f"p_{one}") if channels == 1 else node(
                          "Identity", [f"c_{one}"], f"p_{one}"),
                      node("Transpose", [f"p_{one}"], f"t_{one}", perm=[0, 2, 3, 1]),
                      node("Reshape", [f"t_{one}", f"s_{one}"], one)]
            outputs.append(field(12, value_info(one, [1, cells, channels])))
    graph = b"".join([*(field(1, each) for each in nodes), field(2, b"faces"), *(field(5, each) for each in tensors),
                      field(11, value_info("input", [1, 3, SIDE, SIDE])), *sorted(outputs)])
    path.write_bytes(number(1, 8) + field(7, graph) + field(8, field(1, b"") + number(2, 13)))
    return str(path)


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def number(tag: int, value: int) -> bytes:
    return varint(tag << 3) + varint(value)


def field(tag: int, content: bytes) -> bytes:
    return varint(tag << 3 | 2) + varint(len(content)) + content


def tensor(name: str, array: np.ndarray) -> bytes:
    kind = INT64 if array.dtype == np.int64 else FLOAT
    return b"".join([*(number(1, side) for side in array.shape), number(2, kind), field(8, name.encode()),
                     field(9, array.tobytes())])


def node(operator: str, inputs: list[str], output: str, **attributes: list[int]) -> bytes:
    return b"".join([*(field(1, name.encode()) for name in inputs), field(2, output.encode()),
                     field(3, f"n_{output}".encode()), field(4, operator.encode()),
                     *(field(5, field(1, name.encode()) + b"".join(number(8, value) for value in values)
                             + number(20, INTS)) for name, values in attributes.items())])


def value_info(name: str, shape: list[int]) -> bytes:
    sides = b"".join(field(1, number(1, side)) for side in shape)
    return field(1, name.encode()) + field(2, field(1, number(1, FLOAT) + field(2, sides)))
