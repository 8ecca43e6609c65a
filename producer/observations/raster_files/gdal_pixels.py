"""Pixels of a raster that GDAL reads."""

from contextlib import ExitStack
from typing import Any

import numpy as np
from jaxtyping import Bool, Shaped
from rasterio.enums import ColorInterp, MaskFlags, Resampling
from rasterio.errors import RasterioError
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window as RasterWindow

from unigeo.producer.observations.raster_files.decimated_pixels import (
    DamagedPixelsError,
    Decimation,
    ReadWindow,
    empty_window,
)
from unigeo.producer.observations.raster_files.gdal_files import open_dataset
from unigeo.producer.observations.raster_files.raster_addresses import gdal_settings
from unigeo.producer.observations.raster_files.raster_source import RasterSource, has_value
from unigeo.schemas.errors import ObservationsError


class GdalPixels:
    """Reader of an open raster file."""

    def __init__(self, source: RasterSource) -> None:
        """Open the file.

        Raises:
            ObservationsError: it could be read when the source was made, and cannot now.
        """
        self._source = source
        self._stack = ExitStack()
        try:
            with gdal_settings(source.path, source.form):
                dataset = open_dataset(source.path, source.form, source.text)
            self._dataset = self._stack.enter_context(dataset)
            self._file_bands = [1] if source.palette else list(source.bands)
            masked = _is_masked(self._mask_flags())
            # GDAL's means and the file's overviews count voids that the file does not declare as
            # heights, and average codes of colours and classes.
            undeclared = source.nodata is not None or not masked
            self._own_means = (
                (source.heights is not None and undeclared)
                or bool(source.palette)
                or source.encoder == "classes"
            )
            if source.nodata is not None and not self._own_means:
                self._dataset = self._stack.enter_context(_with_nodata(dataset, source))
        except RasterioError as error:
            self._stack.close()
            raise ObservationsError(
                f"{source.path} could be read before and cannot now: {error}. Put it back."
            ) from error
        flags = self._mask_flags()
        self._masked = _is_masked(flags)
        self._by_value = all(MaskFlags.nodata in flag for flag in flags)
        self._nodata = [self._dataset.nodatavals[band - 1] for band in self._file_bands]
        self._has_alpha = self._by_value and ColorInterp.alpha in self._dataset.colorinterp
        # An image may hold its nodata value, black, in one band and still be seen in the others.
        dtypes = [self._dataset.dtypes[band - 1] for band in self._file_bands]
        self._any_band = all(dtype.startswith("uint") for dtype in dtypes)
        self._decimation = Decimation(
            keep="commonest" if source.encoder == "classes" else "mean",
            rounded=bool(source.palette),
        )
        # Images of few values are read as they are; others as floating-point numbers that hold
        # them. Heights keep the type of the file, by which their means are rounded.
        self._out_dtype = None
        if source.heights is None and set(dtypes) != {"uint8"}:
            self._out_dtype = np.result_type(np.float32, *dtypes).name

    def close(self) -> None:
        """Close the file."""
        self._stack.close()

    def raw(
        self, window: RasterWindow
    ) -> tuple[Shaped[np.ndarray, "band row col"], Bool[np.ndarray, "band row col"]]:
        """Read a part of the file: its own numbers or colours, and which of them are data.

        Raises:
            DamagedPixelsError: the file cannot be read there.
        """
        source = self._source
        try:
            with gdal_settings(source.path, source.form):
                numbers = self._dataset.read(self._file_bands, window=window)
                known = has_value(numbers, source.nodata)
                if self._masked:
                    known &= self._dataset.read_masks(self._file_bands, window=window) > 0
        except RasterioError as error:
            raise DamagedPixelsError from error
        if not source.palette:
            return numbers, known
        colours = np.frombuffer(source.palette, np.uint8).reshape(-1, 4)
        rgba = np.moveaxis(colours[numbers[0]], -1, 0)
        known = np.broadcast_to(known & (rgba[3] >= 128), (len(source.bands), *rgba.shape[1:]))
        return rgba[[band - 1 for band in source.bands]], known

    def read(self, window: RasterWindow, height: int, width: int) -> ReadWindow:
        """Read a window of the file as `height` x `width` pixels.

        Raises:
            MeaningError: numbers of a surface model are no heights.
        """
        source = self._source
        bands = len(source.bands)
        result = empty_window((bands, height, width))
        try:
            if self._own_means:
                values, data = self._decimation.read(
                    self._checked_metres, window, height, width, bands
                )
                result.values[:], result.data[:] = source.number_classes(values, data)
                result.values[:, ~result.data] = 0
                return result
            options: dict[str, Any] = {
                "window": window,
                "out_shape": (bands, height, width),
                "resampling": Resampling.average,
            }
            with gdal_settings(source.path, source.form):
                values = self._dataset.read(self._file_bands, out_dtype=self._out_dtype, **options)
                data = self._data_mask(values, options)
        except (RasterioError, DamagedPixelsError):
            # The other blocks of a damaged file may still be readable.
            result.unreadable[:] = True
            return result
        if values.dtype.kind == "f":
            data &= np.isfinite(values).all(axis=0)
        if source.heights is not None:
            source.heights.check(values[0], data, source.label)
            values = source.heights.to_metres(values)
        result.values[:], result.data[:] = source.to_values(values), data
        if not data.all():
            result.values[:, ~data] = 0
        return result

    def _mask_flags(self) -> list[Any]:
        """Return what GDAL's mask of each band that is read is made of."""
        return [self._dataset.mask_flag_enums[band - 1] for band in self._file_bands]

    def _checked_metres(
        self, window: RasterWindow
    ) -> tuple[Shaped[np.ndarray, "band row col"], Bool[np.ndarray, "band row col"]]:
        """Read a part of the file, each height checked and in metres."""
        numbers, known = self.raw(window)
        heights = self._source.heights
        if heights is None:
            return numbers, known
        heights.check(numbers, known, self._source.label)
        return heights.to_metres(numbers), known

    def _data_mask(
        self, values: Shaped[np.ndarray, "band row col"], options: dict[str, Any]
    ) -> Bool[np.ndarray, "row col"]:
        """Return which of the read pixels have data by the file's mask or nodata value.

        A read pixel that averages several has data if half of them have. In a file with a nodata
        value whose fourth band is called alpha (it often is near infrared), the nodata value
        decides, and a read pixel has data if any of its pixels has.
        """
        if not self._masked:
            return np.ones(values.shape[1:], bool)
        undecimated = (options["window"].height, options["window"].width) == values.shape[1:]
        # GDAL's mask of a file with alpha is the alpha band, so the values are compared instead;
        # a mean, which leaves nodata out, equals nodata only where all its pixels do.
        if self._by_value and (undecimated or self._has_alpha):
            pairs = zip(values, self._nodata, strict=True)
            known = np.stack([band != nodata for band, nodata in pairs])
        else:
            known = self._dataset.read_masks(self._file_bands, **options) >= 128
        data: Bool[np.ndarray, "row col"] = (np.any if self._any_band else np.all)(known, axis=0)
        return data


def _is_masked(flags: list[Any]) -> bool:
    """Return whether a band may have pixels without data."""
    return any(MaskFlags.all_valid not in flag for flag in flags)


def _with_nodata(dataset: Any, source: RasterSource) -> WarpedVRT:
    """Wrap a raster so that it declares the nodata value that the source states."""
    crs = dataset.crs or source.crs_wkt  # a PNG declares none
    return WarpedVRT(
        dataset,
        src_nodata=source.nodata,
        nodata=source.nodata,
        src_crs=crs,
        transform=dataset.transform,
        width=dataset.width,
        height=dataset.height,
        crs=crs,
    )
