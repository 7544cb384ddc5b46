"""Experiments as functions over jobs: plain, frozen, serializable values that say what is to be done.

    from voxkit.experiments.decode import DecodeJob, decode
    for found in decode(DecodeJob("exp/stage3", sets=("test",), methods=("prefix_beam",))):
        print(found.row["WER"], found.record)

A record is a job with its result, beside what it wrote (`voxkit.experiments.records`); read back, the job runs again.
"""
