"""Seeds: photos with coordinates, from wherever they are, checked, sampled and written as GRE30K-Seed."""
