"""Detector frames of the made-up visit, in the formats of the beamlines: NeXus (HDF5), TIFF, CBF."""

from __future__ import annotations

from functools import cache
from io import BytesIO
from typing import TYPE_CHECKING

import fabio.cbfimage
import h5py
import numpy as np
import tifffile

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    Frame = NDArray[np.uint16]
    Float = NDArray[np.float32]


@cache
def _rings(side: int) -> Float:
    """Return what a frame shows without its noise."""
    across = np.arange(side) - side / 2
    radius = np.hypot(*np.meshgrid(across, across))
    rings = 400 * np.exp(-(((radius % (side / 6)) - side / 12) ** 2) / 18)
    counted: Float = (1200 + rings).astype(np.float32)
    return counted


class Detector:
    """Takes frames, the same ones for the same seed.

    Args:
        side: pixels along each edge.
        seed: what the noise is drawn from.
    """

    def __init__(self, side: int, seed: int) -> None:
        """Begin with the first frame."""
        self.side = side
        self._random = np.random.default_rng(seed)

    def frame(self) -> Frame:
        """Return the next frame: rings under counting noise, so packing gains little, as with real ones."""
        counted = _rings(self.side)
        # Counts this high are as good as normal, which is many times quicker to draw.
        noise = self._random.standard_normal((self.side, self.side), dtype=np.float32) * np.sqrt(counted)
        return (counted + noise).astype(np.uint16)

    def _count(self, size: int, bytes_a_pixel: float) -> int:
        return max(1, int(size / (self.side * self.side * bytes_a_pixel)))

    def write_nexus(self, files: list[Path], size: int) -> None:
        """Write one scan into each file, about ``size`` bytes in all."""
        frames = self._count(size // len(files), 2)
        for path in files:
            with h5py.File(path, "w") as file:
                entry = file.create_group("entry1")
                entry.attrs["NX_class"] = "NXentry"
                entry["title"] = "Ti-64, two-phase, in situ"
                detector = entry.create_group("pco1_hw_hdf_nochunking")
                detector.attrs["NX_class"] = "NXdata"
                data = detector.create_dataset(
                    "data",
                    shape=(frames, self.side, self.side),
                    dtype=np.uint16,
                    chunks=(1, self.side, self.side),
                    track_times=False,
                )
                for number in range(frames):
                    data[number] = self.frame()

    def tiff(self) -> bytes:
        """Return the next frame as a TIFF file."""
        buffer = BytesIO()
        tifffile.imwrite(buffer, self.frame(), photometric="minisblack", metadata=None)
        return buffer.getvalue()

    def write_tiff(self, folder: Path, size: int) -> None:
        """Write about ``size`` bytes of TIFF files, one a frame."""
        folder.mkdir()
        for number in range(self._count(size, 2)):
            (folder / f"p_{number:05}.tif").write_bytes(self.tiff())

    def write_cbf(self, folder: Path, size: int) -> None:
        """Write about ``size`` bytes of CBF files, one a frame; packed to some 1.2 bytes a pixel."""
        folder.mkdir()
        for number in range(self._count(size, 1.2)):
            image = fabio.cbfimage.CbfImage(data=self.frame().astype(np.int32))
            image.write(str(folder / f"{folder.name}_{number:05}.cbf"))
