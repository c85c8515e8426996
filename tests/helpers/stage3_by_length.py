"""Stage 3 as its command runs it, but paid by length: a random policy's own rewards are all the same."""
from gre.config import main
from stages import stage3
from tests.helpers.zero_ranks import lengths

if __name__ == "__main__":
    stage3.format_rewards = lengths
    main(stage3.run, stage3.Config, stage3.__doc__, stage3.plan)
