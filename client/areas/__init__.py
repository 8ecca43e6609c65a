"""Fields over areas: polygons, what they cover, windows, means, cuts, GeoTIFFs."""
