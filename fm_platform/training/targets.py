"""What a model is trained towards: the posterior of the label model, or a sharper one."""

from __future__ import annotations

import numpy as np
import pyarrow as pa


def sharpened(rows: pa.Table, power: float) -> pa.Table:
    """Return rows whose probabilities are raised to a power and sum to 1 again.

    A calibrated posterior of votes that depend on each other is flat: as a target it makes of
    each class a little, and rare classes are answered too rarely. Sharpening (Berthelot et al.
    2019, "MixMatch", equation 7 with T = 1 / power) keeps the order of the classes. Where a label
    does not tell some classes apart, their sum is sharpened and their shares stay.

    Args:
        rows: Columns probabilities list<float32>[k] and, where there are labels of former
            classes, cells list<int8>[k].
        power: At least 1; 1 changes nothing.
    """
    if power == 1.0 or not rows.num_rows:
        return rows
    at = rows.schema.get_field_index("probabilities")
    column = rows["probabilities"].combine_chunks()
    told = np.asarray(column.flatten(), np.float64).reshape(rows.num_rows, -1)
    mass = told
    if "cells" in rows.column_names and rows["cells"].null_count < rows.num_rows:
        mass = told.copy()
        for i, cells in enumerate(rows["cells"].to_pylist()):
            if cells is not None:
                sums = np.bincount(cells, weights=told[i], minlength=told.shape[1])
                mass[i] = sums[cells]
    powers = told * np.where(mass > 0, mass, 1.0) ** (power - 1.0)
    found = (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)
    offsets = np.arange(0, found.size + 1, found.shape[1], dtype=np.int32)
    lists = pa.ListArray.from_arrays(pa.array(offsets), pa.array(found.ravel()))
    return rows.set_column(at, rows.schema.field(at), lists.cast(rows.schema.field(at).type))
