"""Labels as code: labeling functions, and label models that weigh what they say.

A project's `labeling_functions.py` needs only this:

    from fm_platform.labeling import labeling_function

    @labeling_function()
    def shouting(row):
        return "negative" if row.text.isupper() else None
"""

from fm_platform.labeling.functions import ABSTAIN, LabelingFunction, labeling_function

__all__ = ["ABSTAIN", "LabelingFunction", "labeling_function"]
