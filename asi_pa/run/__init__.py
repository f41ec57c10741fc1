"""Running traces on machines: how well a run predicts the machine that was recorded.

Public: ``asi_pa.run.validate`` (the verb's work) and ``asi_pa.run.statement`` (the line beside a comparison).
"""
