"""What is said of a place: its features in one to three sentences, the most telling facts first."""

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import rasterio
from jaxtyping import Float

from unigeo.producer.observations.geotiff.height_values import check_unscaled
from unigeo.producer.sources.captions import Captioner, open_captioner
from unigeo.producer.sources.findings import Finding, ObservationSource, Origin, SourceFindings
from unigeo.producer.sources.map_features import (
    Box,
    Feature,
    query_ogc_features,
    query_overpass,
    read_features,
)
from unigeo.producer.sources.set_description import TextRules
from unigeo.producer.sources.web_requests import WebClient
from unigeo.schemas.errors import ObservationsError
from unigeo.schemas.geo.great_circle import (
    LEAST_METRES_PER_DEGREE,
    METRES_PER_DEGREE,
    degree_margins,
)

WGS84 = pyproj.Geod(ellps="WGS84")
MAX_FACTS = 8
"""Facts in a text, at most."""
MIN_FACTS = 3
"""Facts that are told rather than another sentence."""
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
TokenCounter = Callable[[str], int]
FeatureQuery = Callable[[Sequence[Box], Box], list[Feature]]
"""Features in small boxes, and populated places in a wide one that holds them."""


@dataclass(eq=False)
class TextSource:
    """Sentences about places."""

    about: TextRules
    ask: FeatureQuery
    count: TokenCounter
    seed: int
    landcover: Path | None = None
    captioner: Captioner | None = None
    aerial: ObservationSource | None = None
    """Where the images that are described come from."""

    @property
    def reach_m(self) -> float:
        """Names of towns reach farther, and are not counted."""
        return self.about.radius_m

    def observe(self, lonlat: Float[np.ndarray, "location 2"]) -> SourceFindings:
        """Say something of each place."""
        near = _boxes(lonlat, self.about.radius_m)
        wide = _boxes(lonlat, max(self.about.radius_m, 1000 * self.about.town_km))
        (west, south), (east, north) = wide[:, :2].min(axis=0), wide[:, 2:].max(axis=0)
        boxes: list[Box] = [(float(w), float(s), float(e), float(n)) for w, s, e, n in near]
        known = self.ask(boxes, (float(west), float(south), float(east), float(north)))
        places = np.array([(one.lon, one.lat) for one in known]).reshape(-1, 2)
        cover, captions = self._cover(lonlat), self._captions(lonlat)
        found = []
        for k, point in enumerate(lonlat):
            text = self._say(point, known, places, cover[k], captions[k])
            origin = Origin(licence=self.about.licence, credit=self.about.credit)
            found.append(Finding(text, origin) if text else Finding(reason="nothing to say"))
        return SourceFindings(found)

    def provenance(self) -> dict[str, Any]:
        """JSON: the settings."""
        return self.about.model_dump(mode="json")

    def _say(
        self,
        point: Float[np.ndarray, " 2"],
        known: list[Feature],
        places: Float[np.ndarray, "feature 2"],
        cover: str,
        caption: str,
    ) -> str:
        digest = hashlib.sha256(f"{self.seed} {point[0]!r} {point[1]!r}".encode()).digest()
        rng = np.random.default_rng(list(digest[:8]))
        azimuth, _, metres = WGS84.inv(
            np.full(len(places), point[0]), np.full(len(places), point[1]),
            places[:, 0], places[:, 1],
        )  # fmt: skip
        metres, azimuth = np.asarray(metres, float), np.asarray(azimuth, float)
        near = [k for k in np.flatnonzero(metres <= self.about.radius_m) if not known[k].settled]
        towns = [k for k in range(len(known)) if known[k].settled and known[k].people >= 0
                 and metres[k] <= 1000 * self.about.town_km]  # fmt: skip
        facts = self._facts([known[k] for k in near], metres[near])
        sentences: list[str] = []
        if facts:
            opening = _OPENINGS[int(rng.integers(len(_OPENINGS)))]
            sentences.append(opening.format(_listed(facts[:MAX_FACTS])))
        if caption:
            sentences.append(f"From above: {caption}.")
        if cover:
            sentences.append(f"The ground is mostly {cover}.")
        if towns:
            sentences.append(self._town(known, towns, metres, azimuth))
        return self._fitting(facts, sentences)

    def _facts(self, near: list[Feature], metres: Float[np.ndarray, " near"]) -> list[str]:
        """Kinds with their numbers and names, the most telling first."""
        if not near:
            return []
        order = sorted(range(len(near)), key=lambda k: (-near[k].telling, metres[k]))
        counts = Counter(one.kind for one in near)
        facts: list[str] = []
        told: set[str] = set()
        for k in order:
            one = near[k]
            if one.kind in told:
                continue
            told.add(one.kind)
            many = counts[one.kind]
            fact = (
                f"{_article(one.kind)} {one.kind}" if many == 1 else f"several {_plural(one.kind)}"
            )
            if self.about.names == "keep" and one.name and many == 1:
                fact += f" ({one.name})"
            facts.append(fact)
        return facts

    def _town(
        self,
        known: list[Feature],
        towns: list[int],
        metres: Float[np.ndarray, " feature"],
        azimuth: Float[np.ndarray, " feature"],
    ) -> str:
        """The populated place that says most: the largest for its distance."""
        best = max(towns, key=lambda k: (known[k].people + 200) / (1000 + metres[k]))
        one = known[best]
        if metres[best] < 1500:
            where = "In or next to"
        elif self.about.names == "keep":
            side = COMPASS[round(((azimuth[best] + 180) % 360) / 45) % 8]
            where = f"About {metres[best] / 1000:.0f} km {side} of"
        else:
            where = "Not far from"
        keep = self.about.names == "keep" and one.name
        name = f"{one.name}, a {one.settled}" if keep else f"a {one.settled}"
        return f"{where} {name}."

    def _cover(self, lonlat: Float[np.ndarray, "location 2"]) -> list[str]:
        """The most common class of land cover within the radius of each place, in words."""
        if self.landcover is None:
            return [""] * len(lonlat)
        legend = LEGENDS[self.about.landcover_legend]
        words = []
        with rasterio.open(self.landcover) as raster:
            to = pyproj.Transformer.from_crs(4326, raster.crs, always_xy=True)
            for lon, lat in lonlat:
                high = self.about.radius_m / METRES_PER_DEGREE
                wide = high / np.cos(np.radians(lat))
                x, y = to.transform([lon - wide, lon + wide], [lat - high, lat + high])
                window = raster.window(min(x), min(y), max(x), max(y)).round()
                values = raster.read(1, window=window, boundless=True, fill_value=0)
                seen = Counter(legend[int(v)] for v in values.ravel() if int(v) in legend)
                words.append(seen.most_common(1)[0][0] if seen else "")
        return words

    def _fitting(self, facts: list[str], sentences: list[str]) -> str:
        """Join sentences, and leave out what tells least until few enough tokens are left.

        Facts above `MIN_FACTS` go first, then the later sentences from the last, then facts.
        """
        kept = facts[:MAX_FACTS]
        while sentences:
            text = " ".join(sentences)
            if self.about.names == "drop":
                text = redact(text)
            if self.count(text) <= self.about.tokens:
                return text
            if len(kept) > MIN_FACTS or (len(sentences) == 1 and len(kept) > 1):
                shorter = kept[:-1]
                sentences[0] = sentences[0].replace(_listed(kept), _listed(shorter))
                kept = shorter
            else:
                sentences = sentences[:-1]
        return ""

    def _captions(self, lonlat: Float[np.ndarray, "location 2"]) -> list[str]:
        """What the aerial image of each place shows; nothing where there is none."""
        said = [""] * len(lonlat)
        if self.captioner is None or self.aerial is None:
            return said
        found = self.aerial.observe(lonlat).findings
        there = [k for k, one in enumerate(found) if one.value is not None]
        captions = self.captioner.captions([found[k].value for k in there])
        for k, caption in zip(there, captions, strict=True):
            said[k] = caption
        return said


def _boxes(
    lonlat: Float[np.ndarray, "location 2"], radius_m: float
) -> Float[np.ndarray, "location 4"]:
    """Boxes of degrees that hold a circle round each place."""
    edge = np.abs(lonlat[:, 1]) + radius_m / LEAST_METRES_PER_DEGREE
    wide, high = degree_margins(radius_m, edge)
    reach = np.stack(np.broadcast_arrays(wide, high), axis=1)
    return np.concatenate([lonlat - reach, lonlat + reach], axis=1)


def redact(text: str) -> str:
    """Take out numbers, coordinates and house numbers."""
    return re.sub(r"\s+([.,])", r"\1", re.sub(r"\s{2,}", " ", _NUMBER.sub("", text))).strip()


def estimate_tokens(text: str) -> int:
    """Count tokens generously where no tokenizer is at hand: four letters are one, a sign is one.

    Start and end are counted too.
    """
    pieces = re.findall(r"[^\W\d_]+|\d|[^\w\s]", text)
    return 2 + sum(max(1, -(-len(piece) // 4)) for piece in pieces)


def token_counter(folder: Path) -> TokenCounter:
    """How many tokens a text tower sees of a text, by its own tokenizer.

    Args:
        folder: of a model, or of a checkpoint of `transformers`.

    Raises:
        ObservationsError: it has no tokenizer.
    """
    from tokenizers import Tokenizer

    from unigeo.producer.encoders.pretrained import load_pretrained_tokenizer

    try:
        if (folder / "tokenizer_config.json").is_file():
            tokenizer, _ = load_pretrained_tokenizer(str(folder))
        else:
            tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    except Exception as error:  # tokenizers raises plain Exception
        raise ObservationsError(
            f"table [text]: no tokenizer in {folder} ({error}); it is a folder with tokenizer.json."
        ) from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return lambda text: len(tokenizer.encode(text.lower()).ids)  # as `encoders.words.tokenize`


def open_text_source(
    about: TextRules, seed: int, aerial: ObservationSource | None = None
) -> TextSource:
    """Open a source of words.

    Args:
        about: settings.
        seed: of the choice among ways to say it.
        aerial: source of the images that are described, if they are to be.

    Raises:
        ObservationsError: files or the tokenizer cannot be read.
    """
    count = estimate_tokens if about.tokenizer is None else token_counter(Path(about.tokenizer))
    web = WebClient(about.per_second)
    if about.kind == "files":
        everything = [one for name in about.files for one in read_features(name)]

        def inside(near: Sequence[Box], wide: Box) -> list[Feature]:
            west, south, east, north = wide
            return [f for f in everything if west <= f.lon <= east and south <= f.lat <= north]

        ask: FeatureQuery = inside
    elif about.kind == "overpass":
        ask = lambda near, wide: query_overpass(web, about.url, near, wide)  # noqa: E731
    else:
        ask = lambda near, wide: query_ogc_features(web, about.url, wide)  # noqa: E731
    cover = None if about.landcover is None else Path(about.landcover)
    if cover is not None and not cover.is_file():
        raise ObservationsError(f"table [text]: there is no raster of land cover {cover}.")
    if cover is not None:
        with rasterio.open(cover) as raster:
            check_unscaled(raster, (1,), f"table [text]: {cover}")
    captioner = None
    if about.caption is not None:
        captioner = open_captioner(about.caption, about.caption_tokens)
    return TextSource(about, ask, count, seed, cover, captioner, aerial)


def _listed(facts: list[str]) -> str:
    if len(facts) < 2:
        return "".join(facts)
    return ", ".join(facts[:-1]) + " and " + facts[-1]


MASS = ("water", "land", "grass", "forest", "wood", "grassland", "cropland", "housing", "scrub")


def _article(kind: str) -> str:
    if kind.split()[-1].endswith(MASS):
        return "some"
    return "an" if kind[:1] in "aeiou" else "a"


def _plural(kind: str) -> str:
    if kind.split()[-1].endswith(MASS):
        return f"areas of {kind}"
    if kind.endswith(("s", "sh", "ch", "x")):
        return kind + "es"
    if kind.endswith("y") and kind[-2:-1] not in "aeiou":
        return kind[:-1] + "ies"
    return kind + "s"
