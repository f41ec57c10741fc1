"""Operations run against a machine: the loop, hits inline, populating, samples over time; and how well a run
predicts the machine that was recorded.

Public: :class:`.replay.Replay`, :class:`.samples.Samples`, :func:`.start.compile_trace`,
:func:`.validate.validate` and :func:`.statement.statement`.
"""
