"""The card that lies beside a field: its model's card, and what the field was made of."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from unigeo.schemas.store.attributes import UnigeoAttributes


def field_card(
    model_card: str | None,
    own: UnigeoAttributes,
    licence: str,
    citation: str,
    providers: Sequence[str],
) -> str:
    """Write the card, as Markdown.

    Args:
        model_card: of the model that made the field, if there is one.
        own: the field's attributes.
        licence: of the field.
        citation: of the field.
        providers: of the field.
    """
    card = model_card or (
        f"# {own.model.name}\n\nThe model came without a card; the SHA-256 of its weights is "
        f"`{own.model.sha256}`.\n"
    )
    return (
        card.rstrip("\n") + "\n\n" + "\n".join(_statement(own, licence, citation, providers)) + "\n"
    )


def _statement(
    own: UnigeoAttributes, licence: str, citation: str, providers: Sequence[str]
) -> Iterator[str]:
    grid = own.grid.grid()
    rows, cols = grid.shape
    about = own.observations
    yield "## This field"
    yield ""
    yield (
        f"Region {own.region}: {rows:,} x {cols:,} cells of {grid.resolution_m:g} m in {grid.crs}; "
        f"{', '.join(own.layout.modalities)}, "
        f"{own.field_layout().describe_width('numbers each')}, int8. Every cell "
        "says in its status why it has or lacks a vector. Weights: SHA-256 "
        f"`{own.model.sha256}`; made by unigeo {own.code_version}."
    )
    yield ""
    yield f"Licence: {licence}. Citation: {citation}. Provided by: {', '.join(providers)}."
    yield ""
    yield "## Data statement"
    yield ""
    made_up = " They are synthetic: no place is as they say." if about.get("synthetic") else ""
    yield (
        f"Observations: {about.get('name', 'not stated')}; licence "
        f"{about.get('licence', 'not stated')}; {about.get('citation') or 'no citation stated'}."
        f"{made_up}"
    )
    sources = about.get("modalities", {})
    if sources:
        yield ""
        yield "| modality | acquired | licence | credit | files | bytes |"
        yield "| --- | --- | --- | --- | ---: | ---: |"
        yield from (_row(name, source) for name, source in sources.items())
        yield ""
        yield "The hash of each file is in the store's attribute `unigeo.observations`."


def _row(name: str, source: Mapping[str, Any]) -> str:
    inputs = source.get("inputs", [])
    size = sum(int(one.get("bytes", 0)) for one in inputs)
    told = (str(source.get(key) or "not stated") for key in ("acquired", "licence", "credit"))
    cells = [name, *(text.replace("|", "\\|").replace("\n", " ") for text in told)]
    return f"| {' | '.join(cells)} | {len(inputs):,} | {size:,} |"
