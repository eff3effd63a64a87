"""YuNet (Wu, Peng and Yu 2023; MIT, 230 kB), the face detector that OpenCV runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import ModelUnavailable
from .faces import BY_HAND, MIN_SCORE, Face
from .placement import Landmarks
from .weights import Weights, fetched, opencv

WHAT = "The network that finds faces (YuNet, 230 kB)"
FOR_OPENCV_4 = Weights(
    WHAT,
    ("opencv/face_detection_yunet",),
    "face_detection_yunet_2023mar.onnx",
    "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4",
    BY_HAND,
)
FOR_OPENCV_5 = Weights(  # its engine does not read the one above, whose shapes are fixed
    WHAT,
    ("pollen-robotics/face_detection_yunet_2026may", "opencv/face_detection_yunet"),
    "face_detection_yunet_2026may.onnx",
    "ebafce4e3c118d6554634be5c27ab333b4c047a9a8c3faf1d7cf93101c22f0f0",
    BY_HAND,
)
NMS = 0.3  # overlap from which two boxes are one face, as in OpenCV's example
TOP = 500  # candidates that are compared


@dataclass(frozen=True)
class YuNet:
    """A `Detector`. path: of the ONNX file."""

    path: Path

    def __call__(self, picture: np.ndarray) -> list[Face]:
        """The faces of a picture (H, W, 3), uint8 RGB. Raises ModelUnavailable: the file is damaged."""
        cv2 = opencv("Finding faces", BY_HAND)
        height, width = picture.shape[:2]
        try:
            detector = cv2.FaceDetectorYN.create(str(self.path), "", (width, height), MIN_SCORE, NMS, TOP)
            _, rows = detector.detect(np.ascontiguousarray(picture[..., ::-1]))
        except cv2.error as error:
            raise ModelUnavailable(f"The network that finds faces cannot be run here. {BY_HAND}") from error
        faces = []
        for row in [] if rows is None else rows:
            # Box (4), then the person's right eye (on the viewer's left), left eye, nose, right and left corner of the
            # mouth, and the score.
            left, right, nose, *corners = map(tuple, row[4:14].reshape(5, 2).astype(float).tolist())
            mouth = tuple(np.mean(corners, axis=0).tolist())
            faces.append(Face(Landmarks(left, right, mouth), float(row[14]), (left, right, nose, *corners)))
        return faces


def load() -> YuNet:
    """The detector, with the weights that the installed OpenCV can read. Raises ModelUnavailable."""
    cv2 = opencv("Finding faces", BY_HAND)
    newer = int(cv2.__version__.split(".")[0]) >= 5
    return YuNet(fetched(FOR_OPENCV_5 if newer else FOR_OPENCV_4))
