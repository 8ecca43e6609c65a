"""Source of texts: one to four sentences on the map features round a location."""

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
from affine import Affine
from jaxtyping import Float
from rasterio.windows import from_bounds

from unigeo.producer.observations.raster_files.band_facts import Stated
from unigeo.producer.observations.raster_files.open_source import open_source
from unigeo.producer.observations.raster_files.raster_pixels import open_pixels, values_in
from unigeo.producer.observations.raster_files.raster_source import RasterSource
from unigeo.producer.sources.captions import Captioner, open_captioner
from unigeo.producer.sources.findings import (
    Finding,
    KeptModality,
    ObservationSource,
    Origin,
    SourceFindings,
)
from unigeo.producer.sources.map_features import (
    Box,
    Feature,
    query_ogc_features,
    query_overpass,
    read_features,
)
from unigeo.producer.sources.set_description import TextRules
from unigeo.producer.sources.token_counts import TokenCounter, estimate_tokens, token_counter
from unigeo.producer.sources.web_requests import WebClient
from unigeo.schemas.errors import ObservationsError
from unigeo.schemas.geo.great_circle import (
    LEAST_METRES_PER_DEGREE,
    METRES_PER_DEGREE,
    degree_margins,
)

WGS84 = pyproj.Geod(ellps="WGS84")
MAX_FACTS = 8
"""Largest number of facts in a text."""
MIN_FACTS = 3
"""Number of facts that are kept in preference to a further sentence."""
COMPASS = ("north", "northeast", "east", "southeast", "south", "southwest", "west", "northwest")
WORLDCOVER = {10: "forest", 20: "shrubland", 30: "grassland", 40: "cropland", 50: "built-up land",
              60: "bare ground", 70: "snow and ice", 80: "water", 90: "wetland", 95: "mangroves",
              100: "moss and lichen"}  # fmt: skip
NLCD = {11: "water", 12: "snow and ice", 21: "open developed land", 22: "low-density housing",
        23: "medium-density housing", 24: "dense built-up land", 31: "bare ground",
        41: "deciduous forest", 42: "evergreen forest", 43: "mixed forest", 52: "shrubland",
        71: "grassland", 81: "pasture", 82: "cropland", 90: "woody wetland",
        95: "marsh"}  # fmt: skip
LEGENDS = {"worldcover": WORLDCOVER, "nlcd": NLCD}
_NUMBER = re.compile(r"\d[\d.,:/°'\"-]*")
_OPENINGS = ("A place with {}.", "Here: {}.", "Nearby there is {}.", "This spot has {} around it.",
             "Seen on the map: {}.", "Around this point lies {}.")  # fmt: skip
FeatureQuery = Callable[[Sequence[Box], Box], list[Feature]]
"""Returns the features in small boxes, and the settlements in a wide box round them."""


@dataclass(eq=False)
class TextSource:
    """Source of texts about locations."""

    rules: TextRules
    query: FeatureQuery
    count: TokenCounter
    seed: int
    """Seed of the choice among openings of a text."""
    landcover: RasterSource | None = None
    """Raster of land cover classes."""
    captioner: Captioner | None = None
    aerial: ObservationSource | None = None
    """Source of the aerial images that the captioner describes."""
    earlier: KeptModality | None = None
    """Texts of an earlier set, which need not be written anew."""

    @property
    def reach_m(self) -> float:
        """Distance up to which features are described; settlements, farther away, do not count."""
        return self.rules.radius_m

    def observe(self, lonlat: Float[np.ndarray, "location 2"]) -> SourceFindings:
        """Describe each location."""
        kept = [None if self.earlier is None else self.earlier.find(point) for point in lonlat]
        findings = [self._finding(None if one is None else one.value, True) for one in kept]
        rest = [row for row, one in enumerate(kept) if one is None]
        if rest:
            for row, text in zip(rest, self._texts(lonlat[rest]), strict=True):
                findings[row] = self._finding(text, False)
        return SourceFindings(findings)

    def _finding(self, text: Any, kept: bool) -> Finding:
        if not text:
            return Finding(reason="nothing to say", kept=kept)
        return Finding(
            text, Origin(licence=self.rules.licence, credit=self.rules.credit), kept=kept
        )

    def _texts(self, lonlat: Float[np.ndarray, "location 2"]) -> list[str]:
        """Write the text of each location; empty where there is nothing to say."""
        near = _boxes(lonlat, self.rules.radius_m)
        wide = _boxes(lonlat, max(self.rules.radius_m, 1000 * self.rules.town_km))
        (west, south), (east, north) = wide[:, :2].min(axis=0), wide[:, 2:].max(axis=0)
        boxes: list[Box] = [(float(w), float(s), float(e), float(n)) for w, s, e, n in near]
        features = self.query(boxes, (float(west), float(south), float(east), float(north)))
        positions = np.array([(one.lon, one.lat) for one in features]).reshape(-1, 2)
        cover, captions = self._land_cover(lonlat), self._captions(lonlat)
        return [
            self._describe(point, features, positions, cover[k], captions[k])
            for k, point in enumerate(lonlat)
        ]

    def _describe(
        self,
        point: Float[np.ndarray, " 2"],
        features: list[Feature],
        positions: Float[np.ndarray, "feature 2"],
        cover: str,
        caption: str,
    ) -> str:
        """Describe one location by facts, a caption, its land cover and a settlement."""
        # Seeded by the location: its text is the same whatever else is observed with it.
        digest = hashlib.sha256(f"{self.seed} {point[0]!r} {point[1]!r}".encode()).digest()
        rng = np.random.default_rng(list(digest[:8]))
        azimuth, _, metres = WGS84.inv(
            np.full(len(positions), point[0]), np.full(len(positions), point[1]),
            positions[:, 0], positions[:, 1],
        )  # fmt: skip
        metres, azimuth = np.asarray(metres, float), np.asarray(azimuth, float)
        in_radius = np.flatnonzero(metres <= self.rules.radius_m)
        near = [k for k in in_radius if not features[k].settlement]
        towns = [k for k, one in enumerate(features) if one.settlement and one.population >= 0
                 and metres[k] <= 1000 * self.rules.town_km]  # fmt: skip
        facts = self._facts([features[k] for k in near], metres[near])
        sentences: list[str] = []
        if facts:
            opening = _OPENINGS[int(rng.integers(len(_OPENINGS)))]
            sentences.append(opening.format(_join(facts[:MAX_FACTS])))
        if caption:
            sentences.append(f"From above: {caption}.")
        if cover:
            sentences.append(f"The ground is mostly {cover}.")
        if towns:
            sentences.append(self._settlement(features, towns, metres, azimuth))
        return self._shorten(facts, sentences)

    def _facts(self, near: list[Feature], metres: Float[np.ndarray, " near"]) -> list[str]:
        """Return one fact per kind of feature, the most relevant first, with its name if it is one.

        Args:
            near: features within the radius.
            metres: distance of each.
        """
        if not near:
            return []
        order = sorted(range(len(near)), key=lambda k: (-near[k].relevance, metres[k]))
        counts = Counter(one.kind for one in near)
        facts: list[str] = []
        kinds: set[str] = set()
        for k in order:
            one = near[k]
            if one.kind in kinds:
                continue
            kinds.add(one.kind)
            single = counts[one.kind] == 1
            fact = f"{_article(one.kind)} {one.kind}" if single else f"several {_plural(one.kind)}"
            if self.rules.names == "keep" and one.name and single:
                fact += f" ({one.name})"
            facts.append(fact)
        return facts

    def _settlement(
        self,
        features: list[Feature],
        towns: list[int],
        metres: Float[np.ndarray, " feature"],
        azimuth: Float[np.ndarray, " feature"],
    ) -> str:
        """Describe the position relative to a settlement: the largest one for its distance."""
        # 200 more, so that settlements without a stated population are compared by distance.
        best = max(towns, key=lambda k: (features[k].population + 200) / (1000 + metres[k]))
        one = features[best]
        if metres[best] < 1500:
            where = "In or next to"
        elif self.rules.names == "keep":
            # The azimuth leads to the settlement; the location is in the opposite direction of it.
            direction = COMPASS[round(((azimuth[best] + 180) % 360) / 45) % 8]
            where = f"About {metres[best] / 1000:.0f} km {direction} of"
        else:
            where = "Not far from"
        keep = self.rules.names == "keep" and one.name
        name = f"{one.name}, a {one.settlement}" if keep else f"a {one.settlement}"
        return f"{where} {name}."

    def _land_cover(self, lonlat: Float[np.ndarray, "location 2"]) -> list[str]:
        """Name the most frequent land cover round each location; empty where it is unknown."""
        if self.landcover is None:
            return [""] * len(lonlat)
        legend = LEGENDS[self.rules.landcover_legend]
        names = []
        to = pyproj.Transformer.from_crs(4326, self.landcover.crs, always_xy=True)
        with closing(open_pixels(self.landcover)) as pixels:
            for lon, lat in lonlat:
                high = self.rules.radius_m / METRES_PER_DEGREE
                wide = high / np.cos(np.radians(lat))
                # A box in the raster's CRS round two corners of the box in degrees.
                x, y = to.transform([lon - wide, lon + wide], [lat - high, lat + high])
                box = from_bounds(min(x), min(y), max(x), max(y), Affine(*self.landcover.affine))
                codes = values_in(pixels, self.landcover, box.round()).ravel().tolist()
                classes = Counter(legend[code] for code in codes if code in legend)
                names.append(classes.most_common(1)[0][0] if classes else "")
        return names

    def _shorten(self, facts: list[str], sentences: list[str]) -> str:
        """Join sentences, and shorten them until the text has no more than the tokens allowed.

        Facts beyond the first `MIN_FACTS` are removed first, then sentences from the last, then the
        other facts.
        """
        kept = facts[:MAX_FACTS]
        while sentences:
            text = " ".join(sentences)
            if self.rules.names == "drop":
                text = redact(text)
            if self.count(text) <= self.rules.tokens:
                return text
            if len(kept) > MIN_FACTS or (len(sentences) == 1 and len(kept) > 1):
                shorter = kept[:-1]
                sentences[0] = sentences[0].replace(_join(kept), _join(shorter))
                kept = shorter
            else:
                sentences = sentences[:-1]
        return ""

    def _captions(self, lonlat: Float[np.ndarray, "location 2"]) -> list[str]:
        """Describe the aerial image of each location; empty where there is none."""
        captions = [""] * len(lonlat)
        if self.captioner is None or self.aerial is None:
            return captions
        findings = self.aerial.observe(lonlat).findings
        present = [k for k, one in enumerate(findings) if one.value is not None]
        described = self.captioner.captions([findings[k].value for k in present])
        for k, caption in zip(present, described, strict=True):
            captions[k] = caption
        return captions


def _boxes(
    lonlat: Float[np.ndarray, "location 2"], radius_m: float
) -> Float[np.ndarray, "location 4"]:
    """Return a box of degrees round a circle at each location: west, south, east, north."""
    edge = np.abs(lonlat[:, 1]) + radius_m / LEAST_METRES_PER_DEGREE
    wide, high = degree_margins(radius_m, edge)
    reach = np.stack(np.broadcast_arrays(wide, high), axis=1)
    return np.concatenate([lonlat - reach, lonlat + reach], axis=1)


def redact(text: str) -> str:
    """Remove all numbers, among them coordinates and house numbers."""
    return re.sub(r"\s+([.,])", r"\1", re.sub(r"\s{2,}", " ", _NUMBER.sub("", text))).strip()


def open_text_source(
    rules: TextRules, seed: int, aerial: ObservationSource | None = None
) -> TextSource:
    """Open a source of texts.

    Args:
        rules: the settings.
        seed: seed of the choice among openings of a text.
        aerial: source of the aerial images that are captioned, if the settings ask for it.

    Raises:
        ObservationsError: files or the tokenizer cannot be read.
    """
    count = estimate_tokens if rules.tokenizer is None else token_counter(Path(rules.tokenizer))
    web = WebClient(rules.per_second)
    if rules.kind == "files":
        features = [one for name in rules.files for one in read_features(name)]

        def features_inside(near: Sequence[Box], wide: Box) -> list[Feature]:
            west, south, east, north = wide
            return [f for f in features if west <= f.lon <= east and south <= f.lat <= north]

        query: FeatureQuery = features_inside
    elif rules.kind == "overpass":
        query = lambda near, wide: query_overpass(web, rules.url, near, wide)  # noqa: E731
    else:
        query = lambda near, wide: query_ogc_features(web, rules.url, wide)  # noqa: E731
    cover = None
    if rules.landcover is not None:
        path = Path(rules.landcover)
        if not path.exists():
            raise ObservationsError(f"table [text]: there is no raster of land cover {path}.")
        stated = Stated(encoder="classes", table="text")
        cover = open_source(path, (1,), None, f"table [text]: {path}", stated=stated)
    captioner = None
    if rules.caption is not None:
        captioner = open_captioner(rules.caption, rules.caption_tokens)
    return TextSource(rules, query, count, seed, cover, captioner, aerial)


def _join(facts: list[str]) -> str:
    if len(facts) < 2:
        return "".join(facts)
    return ", ".join(facts[:-1]) + " and " + facts[-1]


MASS_NOUNS = (
    "water", "land", "grass", "forest", "wood", "grassland", "cropland", "housing", "scrub",
)  # fmt: skip
"""Endings of kinds that have no plural and no indefinite article."""


def _article(kind: str) -> str:
    if kind.split()[-1].endswith(MASS_NOUNS):
        return "some"
    return "an" if kind[:1] in "aeiou" else "a"


def _plural(kind: str) -> str:
    if kind.split()[-1].endswith(MASS_NOUNS):
        return f"areas of {kind}"
    if kind.endswith(("s", "sh", "ch", "x")):
        return kind + "es"
    if kind.endswith("y") and kind[-2:-1] not in "aeiou":
        return kind[:-1] + "ies"
    return kind + "s"
