"""Operations run against a machine: the loop, hits inline, populating, samples over time.

Public: :class:`.replay.Replay` and :class:`.samples.Samples`.
"""
