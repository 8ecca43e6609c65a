"""The card of a field: the card of its model, the field's figures and a data statement."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from unigeo.schemas.store.attributes import UnigeoAttributes


def field_card(
    model_card: str | None,
    attributes: UnigeoAttributes,
    licence: str,
    citation: str,
    providers: Sequence[str],
) -> str:
    """Return the card as Markdown.

    Args:
        model_card: card of the model that made the field, if there is one.
        attributes: the field's attributes.
        licence: licence of the field.
        citation: citation of the field.
        providers: people or institutions that provide the field.
    """
    card = model_card or (
        f"# {attributes.model.name}\n\nThe model came without a card; the SHA-256 of its weights "
        f"is `{attributes.model.sha256}`.\n"
    )
    return (
        card.rstrip("\n")
        + "\n\n"
        + "\n".join(_statement(attributes, licence, citation, providers))
        + "\n"
    )


def _statement(
    attributes: UnigeoAttributes, licence: str, citation: str, providers: Sequence[str]
) -> Iterator[str]:
    grid = attributes.grid.grid()
    rows, cols = grid.shape
    observations = attributes.observations
    yield "## This field"
    yield ""
    yield (
        f"Region {attributes.region}: {rows:,} x {cols:,} cells of {grid.resolution_m:g} m in "
        f"{grid.crs}; "
        f"{', '.join(attributes.layout.modalities)}, "
        f"{attributes.field_layout().describe_width('numbers each')}, int8. Every cell "
        "says in its status why it has or lacks a vector. Weights: SHA-256 "
        f"`{attributes.model.sha256}`; made by unigeo {attributes.code_version}."
    )
    yield ""
    yield f"Licence: {licence}. Citation: {citation}. Provided by: {', '.join(providers)}."
    yield ""
    yield "## Data statement"
    yield ""
    synthetic = (
        " They are synthetic: no place is as they say." if observations.get("synthetic") else ""
    )
    yield (
        f"Observations: {observations.get('name', 'not stated')}; licence "
        f"{observations.get('licence', 'not stated')}; "
        f"{observations.get('citation') or 'no citation stated'}.{synthetic}"
    )
    sources = observations.get("modalities", {})
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
    stated = (str(source.get(key) or "not stated") for key in ("acquired", "licence", "credit"))
    # A bar or a line break in a source's text would end the cell of the Markdown table.
    cells = [name, *(text.replace("|", "\\|").replace("\n", " ") for text in stated)]
    return f"| {' | '.join(cells)} | {len(inputs):,} | {size:,} |"
