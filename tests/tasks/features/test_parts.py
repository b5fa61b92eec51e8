"""Any part of the samples has metrics: `--samples` may choose whatever it likes."""

from __future__ import annotations

import random
from typing import Any

import pytest
from lmmsae_eval.tasks.clip import Clip
from lmmsae_eval.tasks.consistency import Consistency
from lmmsae_eval.tasks.iou import Iou


@pytest.mark.parametrize("task", [Iou, Clip, Consistency], ids=lambda task: task.spec.name)
def test_metrics_of_any_part_of_the_samples_can_be_made(
    task: Any, study_context: Any, run_task: Any
) -> None:
    lines, _ = run_task(task(), study_context())
    draw = random.Random(0)
    for size in (1, 1, 2, 3, 7, len(lines) // 2):
        part = draw.sample(lines, size)
        rows = task().aggregate(part)
        assert all(row.n_ok <= row.n_total <= size for row in rows)
