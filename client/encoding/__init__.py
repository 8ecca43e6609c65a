"""The coordinate encoder in numpy."""
