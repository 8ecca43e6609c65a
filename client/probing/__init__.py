"""Linear models of targets on vectors, and how well they do where they have not been."""
