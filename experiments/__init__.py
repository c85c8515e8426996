"""Studies on a finished quickstart, each a command of its own that resumes: bash experiments/NAME.sh."""
