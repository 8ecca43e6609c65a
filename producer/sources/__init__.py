"""From open catalogues to a set of observations: where to look, what is there, how it is kept."""
