"""A finished field as a product: previews, overviews, concepts, catalogue entries, releases."""
