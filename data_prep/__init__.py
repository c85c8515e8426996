"""From photos to the files that stages read: the factory, step by step.

    python -m data_prep.seeds          photos with coordinates, from anywhere → a seeds folder
    python -m data_prep.split          which photos are for CoT, for Judge, for Seed → GRE30K-Seed
    python -m data_prep.distil         teachers' raw chains about the photos
    python -m data_prep.regions        chains that the gazetteer writes, without a teacher
    python -m data_prep.judge          raw chains → GRE30K-Judge
    python -m data_prep.cot            raw chains → GRE30K-CoT, unverified
    python -m data_prep.verify         … and verified
    python -m data_prep.reason         verified chains → MP16-Reason, train and test; the reward model's rows
    python -m data_prep.recipe         all of these in one
    python -m data_prep.convert        GRE30K ↔ MP16-Reason
    python -m data_prep.inspect        any data file → its card: what is in it, and what is wrong with it
    python -m data_prep.contamination  which photos of a data file a benchmark shows too
    python -m data_prep.rejection      a model's own best samples → GRE30K-CoT
    python -m data_prep.greval         a benchmark of GREval-Bench's kind

A step reads files, writes one folder and ends in a card (data_prep/card.py: card.json, card.txt, card.html). What it
leaves out it counts in the card and lists in `dropped.jsonl`, with the reason. Killed at any moment, the same command
goes on, and its files are those of an undisturbed run, byte for byte: work is cut into shards (data_prep/shards.py), a
shard is a file that is there whole or not at all, and what is joined from shards holds no time and no path of its own.

A seeds folder, which later steps start from (docs/formats.md says every field):

    OUT/seeds.jsonl     GRE30K-Seed's published rows
    OUT/sidecar.jsonl   a line a row, in the same order: where the photo is from, its licence, author, hashes, country
    OUT/imgs/           the photos, JPEG without metadata, named by content
    OUT/dropped.jsonl   every row that is not there, and why
    OUT/card.*          the card
    OUT/work/           shards, removed at the end

Later steps: photos (a seeds folder's rows) → chains (what was said of them) ← teachers (who is asked, at what cost) and
asked (their replies on disk). Rows go on with a sidecar, a line a row, that says whose they are.

Rooms of `seeds`, in the order a row goes through them: sources (tables, folders, marks) → pictures (where the photo's
bytes are) → check (a shard's rows, each opened once) → duplicates (over all shards) → sample (which are taken) → write.
"""
