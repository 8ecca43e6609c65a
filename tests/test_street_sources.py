"""Street images: the geometry of panoramas, the services, EXIF, and what is refused."""

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image
from support.catalogues import TOKEN, Services

from unigeo.producer.sources import mapillary
from unigeo.producer.sources.image_folder import ImageFolder, read_exif
from unigeo.producer.sources.kartaview import KartaView
from unigeo.producer.sources.mapillary import open_mapillary
from unigeo.producer.sources.panorama import camera_rays, render_perspective
from unigeo.producer.sources.set_description import StreetRules, read_set_description
from unigeo.producer.sources.street import StreetImage, StreetSource, split_box
from unigeo.producer.sources.web_requests import GoneError, WebClient
from unigeo.schemas.errors import ObservationsError, StoreError
from unigeo.schemas.geo.regions import region_of_bbox


def sphere(height: int) -> np.ndarray:
    """A panorama whose colours encode the direction: right, up, forward."""
    lon = ((np.arange(2 * height) + 0.5) / (2 * height) - 0.5) * 2 * np.pi
    lat = (0.5 - (np.arange(height) + 0.5) / height) * np.pi
    right = np.cos(lat)[:, None] * np.sin(lon)
    ahead = np.cos(lat)[:, None] * np.cos(lon)
    up = np.broadcast_to(np.sin(lat)[:, None], right.shape)
    return np.rint(127.5 + 127 * np.stack([right, up, ahead])).astype(np.uint8)


@settings(max_examples=15)
@given(st.floats(50, 110), st.floats(-400, 400), st.floats(-60, 60))
def test_a_crop_shows_the_directions_of_a_pinhole_camera(
    fov: float, yaw: float, pitch: float
) -> None:
    result = render_perspective(sphere(256), (24, 24), fov, yaw, pitch)
    looks = camera_rays((24, 24), fov, yaw, pitch).numpy()
    expected = np.moveaxis(127.5 + 127 * looks, 2, 0)
    assert np.abs(result - expected).max() < 3


def test_rays_are_where_they_should_be() -> None:
    looks = camera_rays((101, 101), 90, 0, 0)
    torch.testing.assert_close(looks[50, 50], torch.tensor([0.0, 0, 1], dtype=torch.float64))
    left, right = looks[50, 0], looks[50, 100]
    angle = torch.rad2deg(torch.acos((left * right).sum()))
    assert 89 < angle < 90 and right[0] > 0  # centres of the outer pixels
    assert looks[0, 50][1] > 0.69  # up is up
    turned = camera_rays((101, 101), 90, 90, 0)[50, 50]
    torch.testing.assert_close(
        turned, torch.tensor([1.0, 0, 0], dtype=torch.float64), atol=1e-12, rtol=0
    )
    raised = camera_rays((101, 101), 90, 0, 30)[50, 50]
    assert raised[1] == pytest.approx(0.5)


@given(st.floats(-10, 10), st.floats(-10, 10), st.floats(0.001, 1), st.floats(0.001, 1))
def test_a_split_box_is_covered_by_boxes_of_at_most_the_side(
    w: float, s: float, dx: float, dy: float
) -> None:
    images = split_box(w, s, w + dx, s + dy, 0.1)
    area = sum((e - a) * (n - b) for a, b, e, n in images)
    assert area == pytest.approx(dx * dy, rel=1e-6)
    assert max(max(e - a, n - b) for a, b, e, n in images) <= 0.1 + 1e-9


def image(name: int, lon: float, lat: float, **more: object) -> dict:
    return {
        "id": str(name), "captured_at": 1_650_000_000_000, "compass_angle": 10.0, "is_pano": False,
        "geometry": {"type": "Point", "coordinates": [lon, lat]},
        "creator": {"username": "ada"}, **more,
    }  # fmt: skip


@pytest.fixture
def services(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Services]:
    monkeypatch.setenv("MAPILLARY_TOKEN", TOKEN)
    with Services(tmp_path) as services:
        yield services


def test_every_image_of_a_box_is_found_although_answers_are_cut_off(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mapillary, "LIMIT", 10)
    services.limit = 10
    rng = np.random.default_rng(0)
    for k in range(150):
        services.images.append(image(k, *rng.uniform((5.0, 52.0), (5.15, 52.08))))
    services.images.append({"id": "broken"})  # it has no position
    services.images.pop()
    graph = open_mapillary("MAPILLARY_TOKEN", f"{services.url}/graph", 2000)
    images = graph.search(5.0, 52.0, 5.15, 52.08)
    assert sorted(int(one.name) for one in images) == list(range(150))
    assert {one.licence for one in images} == {"CC-BY-SA-4.0"}
    assert {one.credit for one in images} == {"ada, Mapillary"}


def test_a_token_is_needed_and_never_in_an_address_or_a_message(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAPILLARY_TOKEN", "MLY|wrong")
    graph = open_mapillary("MAPILLARY_TOKEN", f"{services.url}/graph", 2000)
    with pytest.raises(ObservationsError, match="HTTP 401") as error:
        graph.search(5.0, 52.0, 5.01, 52.01)
    assert "wrong" not in str(error.value)
    monkeypatch.delenv("MAPILLARY_TOKEN")
    with pytest.raises(ObservationsError, match="environment variable MAPILLARY_TOKEN"):
        open_mapillary("MAPILLARY_TOKEN")


def test_a_busy_server_is_retried_and_a_removed_image_is_gone(services: Services) -> None:
    services.pixels["7"] = b"pixels"
    services.faults.append(["pixels/7", 429, 2])
    graph = open_mapillary("MAPILLARY_TOKEN", f"{services.url}/graph", 2000, first_wait_s=0.001)
    assert graph.fetch("7") == b"pixels" and services.counts["pixels"] == 3
    with pytest.raises(GoneError, match="HTTP 404"):
        graph.fetch("8")
    services.faults.append(["*", 503, 99])
    with pytest.raises(StoreError, match="goes on where it stopped"):
        graph.search(5.0, 52.0, 5.01, 52.01)


def jpeg(pixels: np.ndarray, exif: Image.Exif | None = None) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=95, exif=exif or Image.Exif())
    return buffer.getvalue()


def street_image(name: str, lon: float, lat: float, **more: object) -> StreetImage:
    about = {"panorama": False, "heading_deg": None, "date": "2022-05-01", "licence": "CC0",
             "credit": "ada", "address": name} | more  # fmt: skip
    return StreetImage(name=name, lon=lon, lat=lat, **about)  # type: ignore[arg-type]


def test_the_nearest_usable_image_is_used_and_the_rest_are_counted() -> None:
    images = [
        street_image("near", 5.0, 52.0),
        street_image("blind", 5.0, 52.0001, panorama=True),
        street_image("torn", 5.01, 52.0),
        street_image("gone", 5.02, 52.0),
        street_image("pano", 5.03, 52.0, panorama=True, heading_deg=90.0),
    ]
    grey = np.full((40, 60, 3), 90, np.uint8)
    files = {"near": jpeg(grey), "torn": jpeg(grey)[:200],
             "pano": jpeg(np.moveaxis(sphere(64), 0, 2))}  # fmt: skip

    def fetch(name: str) -> bytes:
        if name not in files:
            raise GoneError("HTTP 404")
        return files[name]

    about = StreetRules(
        kind="mapillary", patch_px=16, fov_deg=(80, 80), yaw_deg=(90, 90), pitch_deg=(0, 0)
    )
    source = StreetSource(about, lambda *_: images, fetch, seed=0)
    lonlat = np.array([(5.0, 52.0001), (5.01, 52.0), (5.02, 52.0), (5.03, 52.0), (5.3, 52.0)])
    result = source.observe(lonlat)
    assert [one.reason for one in result.findings] == [
        "", "damaged image", "HTTP 404", "", "nothing in reach"
    ]  # fmt: skip
    assert result.unusable == {"blind": "panorama without heading"}
    near, crop = result.findings[0], result.findings[3]
    assert near.origin.item == "near" and near.origin.credit == "ada" and near.origin.panorama == -1
    assert abs(int(near.value.mean()) - 90) <= 1
    # The camera looks east, as the panorama's middle does: forward is blue.
    assert crop.origin.numbers == {"heading_deg": 90, "fov_deg": 80, "pitch_deg": 0}
    assert crop.value[2, 8, 8] > 245 and crop.origin.panorama >= 0


def exif_at(lon: float, lat: float, heading: float | None = None) -> Image.Exif:
    exif = Image.Exif()
    gps = {
        ExifTags.GPS.GPSLatitudeRef: "N" if lat >= 0 else "S",
        ExifTags.GPS.GPSLatitude: (float(int(abs(lat))), abs(lat) % 1 * 60, 0.0),
        ExifTags.GPS.GPSLongitudeRef: "E" if lon >= 0 else "W",
        ExifTags.GPS.GPSLongitude: (float(int(abs(lon))), abs(lon) % 1 * 60, 0.0),
    }
    if heading is not None:
        gps[ExifTags.GPS.GPSImgDirection] = heading
    exif[ExifTags.IFD.GPSInfo] = gps
    exif[ExifTags.Base.DateTime] = "2021:08:09 10:11:12"
    return exif


def test_exif_gives_position_date_and_direction(tmp_path: Path) -> None:
    grey = np.full((8, 8, 3), 90, np.uint8)
    path = tmp_path / "a.jpg"
    path.write_bytes(jpeg(grey, exif_at(-80.25, -25.75, 271.5)))
    one = read_exif(str(path), "CC0", "ada")
    assert isinstance(one, StreetImage)
    assert (one.lon, one.lat) == pytest.approx((-80.25, -25.75), abs=1e-6)
    assert one.heading_deg == pytest.approx(271.5) and one.date == "2021-08-09"
    path.write_bytes(jpeg(grey))
    assert read_exif(str(path), "", "") == "no position in EXIF"
    path.write_bytes(jpeg(grey, exif_at(0.0, 0.0)))
    assert read_exif(str(path), "", "") == "impossible position in EXIF"
    path.write_bytes(b"no image")
    assert read_exif(str(path), "", "") == "damaged image"


def test_images_of_a_folder_outside_the_region_are_refused(tmp_path: Path) -> None:
    grey = np.full((8, 8, 3), 90, np.uint8)
    for name, lon in (("here", 5.25), ("ocean", -30.25)):
        (tmp_path / f"{name}.jpg").write_bytes(jpeg(grey, exif_at(lon, 52.25)))
    (tmp_path / "bare.jpg").write_bytes(jpeg(grey))
    about = StreetRules(kind="folder", files=f"{tmp_path}/*.jpg", blurred=True)
    folder = ImageFolder(about, region_of_bbox((5, 52, 6, 53)))
    assert [one.name for one in folder.search(-180, -90, 180, 90)] == ["here.jpg"]
    assert folder.refused == {
        "ocean.jpg": "position outside the region", "bare.jpg": "no position in EXIF"
    }  # fmt: skip
    source = StreetSource(about, folder.search, folder.fetch, 0, folder.refused)
    result = source.observe(np.array([(5.25, 52.25)]))
    assert result.findings[0].reason == "" and result.unusable == folder.refused


def test_images_of_a_folder_must_be_blurred(tmp_path: Path) -> None:
    path = tmp_path / "set.toml"
    text = (
        'name = "a"\nlicence = "b"\n[where]\nbbox = [1, 2, 3, 4]\ncount = 5\n'
        '[street]\nkind = "folder"\nfiles = "*.jpg"\n'
    )
    path.write_text(text)
    with pytest.raises(ObservationsError, match="blurred = true"):
        read_set_description(path)
    path.write_text(text + "blurred = true\n")
    assert read_set_description(path).street is not None
    path.write_text(text + "colour = 1\n")
    with pytest.raises(ObservationsError, match=r"\[street\] has an unknown key 'colour'"):
        read_set_description(path)


def test_kartaview_is_paged_and_read(services: Services) -> None:
    rng = np.random.default_rng(0)
    for k, (lon, lat) in enumerate(rng.uniform((5.0, 52.0), (5.03, 52.005), (60, 2))):
        services.photos.append(
            {"id": k, "lat": f"{lat:.7f}", "lng": f"{lon:.7f}", "heading": "12.5" if k else None,
             "projection": "SPHERE" if k == 1 else "PLANE", "shotDate": "2020-02-03 04:05:06",
             "fileurlProc": f"{services.url}/pixels/{k}.jpg", "user": {"username": "grace"}}
        )  # fmt: skip
    services.photos.append({"id": 99, "lat": "52.001", "lng": "5.001"})  # it has no pixels
    services.pixels["7.jpg"] = b"pixels"
    services.limit = 7
    kartaview = KartaView(WebClient(1000, first_wait_s=0.001), f"{services.url}/kartaview")
    services.faults.append(["kartaview/*", 429, 2])
    images = {one.name: one for one in kartaview.search(5.0, 52.0, 5.03, 52.005)}
    assert sorted(images, key=int) == [str(k) for k in range(60)]
    assert services.counts["kartaview"] > 9  # several tiles, pages of seven
    one = images["7"]
    assert one.heading_deg == 12.5 and one.date == "2020-02-03" and one.licence == "CC-BY-SA-4.0"
    assert one.credit == "grace, KartaView" and kartaview.fetch(one.address) == b"pixels"
    assert images["0"].heading_deg is None and images["1"].panorama and not one.panorama
    with pytest.raises(GoneError, match="HTTP 404"):
        kartaview.fetch(images["8"].address)
    with pytest.raises(ObservationsError, match="no KartaView API"):
        KartaView(WebClient(1000), f"{services.url}/nothing").search(5.0, 52.0, 5.01, 52.01)
