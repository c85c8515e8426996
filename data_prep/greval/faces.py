"""How much of a photo is faces: OpenCV's FaceDetectorYN with a YuNet model (ONNX) by path."""
from pathlib import Path

import numpy as np
from PIL import Image

from gre.config import UserError

SIDE = 640  # pixels; YuNet's published file takes this and no other size


class FaceDetector:
    """A YuNet file, such as face_detection_yunet_2023mar.onnx of OpenCV's model zoo."""

    def __init__(self, model: str, confidence: float):
        """Raises UserError when OpenCV or the file is missing, or OpenCV cannot read it."""
        try:
            import cv2
        except ImportError as error:
            raise UserError(f"OpenCV cannot be imported ({error}): install the extra, pip install -e "
                            "'.[chain]'") from None
        if not Path(model).is_file():
            raise UserError(f"faces={model}: no such file. Name a YuNet file, face_detection_yunet_2023mar.onnx of "
                            "github.com/opencv/opencv_zoo")
        try:
            self.detector = cv2.FaceDetectorYN.create(model, "", (SIDE, SIDE), confidence)
            self.detector.detect(np.zeros((SIDE, SIDE, 3), np.uint8))
        except cv2.error as error:
            raise UserError(f"faces={model} is no YuNet file ({str(error).strip().splitlines()[0]})") from None

    def share(self, image: Image.Image) -> float:
        """Area of all faces together, as a share of the photo; overlaps count once."""
        image = image.copy()
        image.thumbnail((SIDE, SIDE))
        canvas = np.zeros((SIDE, SIDE, 3), np.uint8)
        canvas[:image.height, :image.width] = np.asarray(image)[:, :, ::-1]  # OpenCV's order is blue, green, red
        covered = np.zeros((image.height, image.width), bool)
        _, faces = self.detector.detect(canvas)
        for left, top, width, height, *_ in [] if faces is None else faces.tolist():
            ends = [max(0, round(end)) for end in (top, top + height, left, left + width)]
            covered[ends[0]:ends[1], ends[2]:ends[3]] = True
        return float(covered.mean())
