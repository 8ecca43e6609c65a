"""Heights of a patch are stored to a centimetre, in PNG that any reader reads."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hn
from PIL import Image

from unigeo.producer.observations.observation_set.height_images import (
    FINEST_M,
    decode_heights,
    encode_heights,
    from_png,
    to_png,
)
from unigeo.schemas.errors import ObservationsError

CODES = hn.arrays(np.uint16, hn.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12))


@given(CODES)
def test_pillow_and_unigeo_read_what_either_wrote(codes: np.ndarray) -> None:
    written = to_png(codes)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(written))), codes)
    np.testing.assert_array_equal(from_png(written, "a file"), codes)
    buffer = io.BytesIO()
    Image.fromarray(codes).save(buffer, "PNG")
    np.testing.assert_array_equal(from_png(buffer.getvalue(), "a file"), codes)


@given(
    hn.arrays(np.float32, (9, 7), elements=st.floats(-400, 8800, width=32) | st.just(np.nan)),
)
def test_a_height_comes_back_to_a_centimetre_and_a_void_as_a_void(metres: np.ndarray) -> None:
    kept = encode_heights(metres)
    back = decode_heights(kept.png, kept.offset_m, kept.scale_m, "a file")
    np.testing.assert_array_equal(np.isnan(back), np.isnan(metres))
    known = np.isfinite(metres)
    if known.any():
        span = np.ptp(metres[known].astype(float))
        assert kept.scale_m == pytest.approx(max(FINEST_M, span / 65_534))
        worst = np.abs(back[known].astype(float) - metres[known]).max()
        assert worst <= kept.scale_m / 2 + 0.002  # float32 has millimetres at the highest


@settings(max_examples=60)
@given(st.data())
def test_damage_is_an_error_or_harmless_and_never_other_heights(data: st.DataObject) -> None:
    """The checksums of chunks are not checked; that of deflate is."""
    rng = np.random.default_rng(0)
    codes = rng.integers(1, 900, (16, 16)).astype(np.uint16)
    png = bytearray(to_png(codes))
    at = data.draw(st.integers(8, len(png) - 1))
    png[at] ^= data.draw(st.integers(1, 255))
    try:
        decoded = from_png(bytes(png), "a file")
    except ObservationsError as error:
        assert "a file is damaged" in str(error)
    else:
        np.testing.assert_array_equal(decoded, codes)


def test_damage_at_the_end_of_the_data_is_noticed() -> None:
    """If deflate's end is lost, its checksum is never compared. Padding bits have no meaning."""
    codes = np.random.default_rng(0).integers(1, 900, (16, 16)).astype(np.uint16)
    written = to_png(codes)
    for at in range(len(written) - 16 - 10, len(written) - 16):
        for change in range(1, 256):
            png = bytearray(written)
            png[at] ^= change
            try:
                decoded = from_png(bytes(png), "a file")
            except ObservationsError:
                continue
            np.testing.assert_array_equal(decoded, codes)


def test_a_file_that_is_cut_short_is_refused() -> None:
    png = to_png(np.arange(400, dtype=np.uint16).reshape(20, 20))
    for size in (0, 7, 30, 60, len(png) // 2):
        with pytest.raises(ObservationsError, match="damaged"):
            from_png(png[:size], "a file")
