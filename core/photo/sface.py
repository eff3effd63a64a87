"""SFace (Zhong et al. 2021; Apache-2.0, 37 MB): whether two pictures show the same person, for real faces."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import ModelUnavailable
from .faces import Detector
from .weights import Weights, fetched, opencv

WEIGHTS = Weights(
    "The network that compares faces (SFace, 37 MB)",
    ("opencv/face_recognition_sface",),
    "face_recognition_sface_2021dec.onnx",
    "0ba9fbfa01b5270c96627c4ef784da859931e02f04419c829e83484087c34e79",
    "The edit is there without that measure.",
)
SAME = 0.363  # cosine from which OpenCV's documentation takes two faces for one person's


@dataclass(frozen=True)
class SFace:
    """path: of the ONNX file."""

    path: Path

    def similarity(self, before: np.ndarray, after: np.ndarray, detector: Detector) -> float:
        """Cosine of the embeddings of two pictures (H, W, 3), uint8 RGB, of one face in one place. Both are aligned by
        the detector's five points before the edit, as OpenCV does it, whose threshold `SAME` is.

        Raises:
            ModelUnavailable: there is no face to compare, or the file is damaged.
        """
        cv2 = opencv("Comparing faces", WEIGHTS.instead)
        faces = [face for face in detector(before) if len(face.points) == 5 and 0 < face.size < np.inf]
        if not faces:
            raise ModelUnavailable("No face was found in this picture, so there is none to compare.")
        points = np.array(max(faces, key=lambda face: face.size).points, np.float32)
        row = np.concatenate([np.zeros(4, np.float32), points.ravel()])[None]  # as YuNet's rows: the box is not used
        try:
            network = cv2.FaceRecognizerSF.create(str(self.path), "")
            embeddings = [
                network.feature(network.alignCrop(np.ascontiguousarray(picture[..., ::-1]), row)).ravel()
                for picture in (before, after)
            ]
        except cv2.error as error:
            raise ModelUnavailable(f"The network that compares faces cannot be run here. {WEIGHTS.instead}") from error
        first, second = (embedding / max(np.linalg.norm(embedding), 1e-12) for embedding in embeddings)
        return float(first @ second)


def load() -> SFace:
    """The comparison. Raises ModelUnavailable."""
    opencv("Comparing faces", WEIGHTS.instead)
    return SFace(fetched(WEIGHTS))
