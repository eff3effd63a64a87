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

# The five points of the 112 x 112 picture that SFace was trained on (ArcFace's): eyes, nose, corners of the mouth.
_REFERENCE = np.array(
    [(38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041)], np.float32
)


@dataclass(frozen=True)
class SFace:
    """path: of the ONNX file."""

    path: Path

    def similarity(self, before: np.ndarray, after: np.ndarray, detector: Detector) -> float:
        """Cosine of the embeddings of two pictures (H, W, 3), uint8 RGB, of one face in one place. Both are aligned by
        the landmarks before the edit.

        Raises:
            ModelUnavailable: there is no face to compare, or the file is damaged.
        """
        cv2 = opencv("Comparing faces", WEIGHTS.instead)
        faces = detector(before)
        if not faces:
            raise ModelUnavailable("No face was found in this picture, so there is none to compare.")
        marks = max(faces, key=lambda face: face.size).landmarks
        points = np.array([marks.left_eye, marks.right_eye, marks.mouth], np.float32)
        reference = np.stack([*_REFERENCE[:2], _REFERENCE[3:].mean(0)])
        affine, _ = cv2.estimateAffinePartial2D(points, reference, method=cv2.LMEDS)
        if affine is None:
            raise ModelUnavailable("The face in this picture cannot be aligned, so it is not compared.")
        try:
            network = cv2.FaceRecognizerSF.create(str(self.path), "")
            embeddings = [
                network.feature(cv2.warpAffine(np.ascontiguousarray(picture[..., ::-1]), affine, (112, 112))).ravel()
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
