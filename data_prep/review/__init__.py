"""Review by people: a page on this machine that shows a data file row by row, and keeps what was said of each."""
