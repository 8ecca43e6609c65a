"""`ds.unigeo`: a field's methods on a Dataset that plain `xr.open_zarr` opened."""


def register() -> None:
    """Register `ds.unigeo`, a `Field` that reads through the Dataset."""
    import xarray as xr

    from unigeo.client.field.opening import field_of_dataset

    if not hasattr(xr.Dataset, "unigeo"):
        xr.register_dataset_accessor("unigeo")(field_of_dataset)  # type: ignore[no-untyped-call]
