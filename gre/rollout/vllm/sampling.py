"""What a vLLM is asked for, in the training process or in a server: equal tokens for equal (seed, step, group)."""
import numpy as np


def sampling_params(keys: list[int], num_generations: int, *, seed: int, step: int, temperature: float,
                    max_new_tokens: int, end_token_id: int, greedy: bool) -> list[dict]:
    """The fields of vLLM's SamplingParams, one dict a group; greedily a group is one completion. `logprobs: 0` gives
    the drawn token's log-probability alone."""
    common = {"max_tokens": max_new_tokens, "stop_token_ids": [end_token_id], "ignore_eos": True, "logprobs": 0,
              "detokenize": False}
    if greedy:
        return [{"temperature": 0.0, **common} for _ in keys]
    return [{"n": num_generations, "temperature": temperature, "seed": group_seed(seed, step, key), **common}
            for key in keys]  # completion i of a group gets its seed + i


def group_seed(seed: int, step: int, key: int) -> int:
    """The seed of a group's first completion, below 2^62."""
    return int(np.random.SeedSequence([seed, step, key]).generate_state(1, np.uint64)[0] >> np.uint64(2))
