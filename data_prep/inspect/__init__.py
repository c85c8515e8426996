"""What is in a data file, and what is wrong with it, before anything is trained on it."""
