"""What a run has cost, by role, model and provider."""

from __future__ import annotations

import json
from collections.abc import Iterable

from core.plans import completion
from gen.busbar.plans.v1.runs_pb import ModelUsage


def usage_json(answers: Iterable[completion.ModelUsage]) -> str:
    """Return what answers cost, added up, as JSON."""
    sums: dict[tuple[str, str, str], ModelUsage] = {}
    for one in answers:
        key = (one.role, one.model_id, one.provider)
        total = sums.setdefault(key, ModelUsage(role=one.role, model_id=one.model_id, provider=one.provider))
        total.calls += 1
        total.prompt_tokens += one.input_tokens
        total.completion_tokens += one.output_tokens
        if one.cost is not None:
            total.cost_usd = (total.cost_usd or 0.0) + one.cost
    return json.dumps([json.loads(total.to_json()) for total in sums.values()])


def read_usage(text: str) -> list[ModelUsage]:
    """Return what `usage_json` has written."""
    return [ModelUsage.from_json(json.dumps(one)) for one in json.loads(text)]
