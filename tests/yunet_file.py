"""A file in YuNet's form (12 outputs: class, object, box and landmarks at three strides) whose answer is known: every
cell of 32 x 32 pixels that is magenta is a face, with its landmarks at `POINTS`, in cells from the cell's corner."""

from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper, save_model

CELL = 32
MAGENTA = (255, 0, 255)
POINTS = np.array([(0.1, -0.3), (1.2, -0.2), (0.6, 0.4), (0.2, 0.9), (1.0, 1.0)])  # right eye, left eye, nose, mouth


def write(path: Path) -> Path:
    """Write the file and return its path."""
    nodes, initial, outputs = [], [], []

    def constant(name: str, value: np.ndarray) -> str:
        initial.append(numpy_helper.from_array(value, name))
        return name

    constant("flat", np.array([1, -1, 1], np.int64))
    for stride in (8, 16, 32):
        on = 1.0 if stride == CELL else 0.0
        # Blue and red much, green not: 1 for magenta, below 0 for gray.
        colour = np.array([0.5, -1.0, 0.5], np.float32).reshape(1, 3, 1, 1) / 255 * on
        kernel = np.broadcast_to(colour / stride**2, (1, 3, stride, stride)).astype(np.float32)
        answers = {
            "cls": (kernel, np.zeros(1)),
            "obj": (kernel, np.zeros(1)),
            "bbox": (np.zeros((4, 3, stride, stride)), np.array([0.5, 0.5, np.log(2.0), np.log(2.0)])),
            "kps": (np.zeros((10, 3, stride, stride)), POINTS.reshape(10)),
        }
        for name, (weight, bias) in answers.items():
            key, width = f"{name}_{stride}", len(bias)
            inputs = [
                "input",
                constant(f"{key}_weight", weight.astype(np.float32)),
                constant(f"{key}_bias", bias.astype(np.float32)),
            ]
            raw = f"{key}_raw"
            nodes.append(helper.make_node("Conv", inputs, [raw], kernel_shape=[stride] * 2, strides=[stride] * 2))
            if name in ("cls", "obj"):
                nodes.append(helper.make_node("Relu", [raw], [f"{key}_above"]))
                raw = f"{key}_above"
            nodes.append(helper.make_node("Transpose", [raw], [f"{key}_last"], perm=[0, 2, 3, 1]))
            shape = constant(f"{key}_shape", np.array([1, -1, width], np.int64))
            nodes.append(helper.make_node("Reshape", [f"{key}_last", shape], [key]))
            outputs.append(helper.make_tensor_value_info(key, TensorProto.FLOAT, [1, None, width]))
    order = [f"{name}_{stride}" for name in ("cls", "obj", "bbox", "kps") for stride in (8, 16, 32)]
    outputs.sort(key=lambda output: order.index(output.name))
    picture = helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, None, None])
    graph = helper.make_graph(nodes, "yunet", [picture], outputs, initial)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    save_model(model, str(path))
    return path
