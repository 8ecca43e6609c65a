"""Names that a modality cannot have, because they mean something else somewhere."""

import pytest
import torch

from unigeo.schemas.errors import LayoutError
from unigeo.schemas.store.layout import check_modality

ATTRIBUTES = [name for name in dir(torch.nn.ModuleDict()) if not name.startswith("_")]


def test_attributes_of_the_module_that_holds_the_encoders_are_refused() -> None:
    assert len(ATTRIBUTES) > 50
    for name in ATTRIBUTES:
        for spelling in (name, name.upper()):
            with pytest.raises(LayoutError, match="cannot be named"):
                check_modality(spelling)


@pytest.mark.parametrize(
    "name",
    ["name", "licence", "land", "locations", "dimension", "towers", "seed", "latitude", "status",
     "joined", "covariates", "overviews", "preview", "search", "manifest"],
)  # fmt: skip
def test_words_of_files_tables_and_stores_are_refused(name: str) -> None:
    with pytest.raises(LayoutError):
        check_modality(name)


@pytest.mark.parametrize("name", ["nightlights", "Soil-2", "land_cover", "fused2", "text2"])
def test_other_names_are_free(name: str) -> None:
    check_modality(name)
