"""Digests of what readers of a set see, which do not change with what is told of its origin.

Licences, credits and dates are in the index, and in a member of each archive. A set in which one of
them was corrected has other files, and the same contents.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from unigeo.producer.observations.forms import COORDINATE
from unigeo.producer.observations.observation_set import index
from unigeo.producer.observations.provenance import CONTENTS
from unigeo.schemas.io.json_text import load_json


def contents_of_shard(
    lines: Sequence[Mapping[str, Any]], members: Mapping[str, bytes]
) -> dict[str, str]:
    """Hash each modality of a shard.

    Args:
        lines: rows of the index, with the names of the archive's members by modality in `_files`.
        members: files of the archive by name.
    """
    digests = {}
    for modality in (COORDINATE, *index.OBSERVED):
        digest = hashlib.sha256()
        for line in lines:
            seen = [line["lon"], line["lat"], *_seen(modality, line, members)]
            digest.update(json.dumps(seen).encode() + b"\n")
        digests[modality] = digest.hexdigest()
    return digests


def contents_of_set(indices: Sequence[bytes], modalities: Sequence[str]) -> dict[str, str] | None:
    """Hash each modality of a set; None if a shard was built by a version that did not hash.

    Args:
        indices: the index of each shard, with its metadata.
        modalities: modalities of the set beside the coordinates.
    """
    shards = [load_json(index.read_metadata(data).get(CONTENTS, "{}")) for data in indices]
    if not all(shards):
        return None
    return {
        name: hashlib.sha256("".join(shard[name] for shard in shards).encode()).hexdigest()
        for name in (COORDINATE, *modalities)
    }


def _seen(modality: str, line: Mapping[str, Any], members: Mapping[str, bytes]) -> list[Any]:
    """Return what readers see of a modality at one location."""
    if modality == COORDINATE:
        return [line["split"]]
    if modality == "text":
        return [line.get("text")]
    if modality not in line["_files"]:
        return []
    seen: list[Any] = [hashlib.sha256(members[line["_files"][modality]]).hexdigest()]
    if modality == "street":
        seen.append(line["panorama"])
    if modality == "dsm":
        seen += [line["dsm_offset_m"], line["dsm_scale_m"]]
    return seen
