"""The field `conus-1` and its model, as data files; `unigeo.client` reads them."""
