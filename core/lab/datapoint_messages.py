"""Datapoints as the lab's clients see them."""

from __future__ import annotations

from core.kernel.clock import to_exact_timestamp
from core.lab.event_directory import EventDirectory, KnownEvent
from core.lab.experiment_directory import ExperimentDirectory
from core.signals.numbers import Number
from core.signals.point_ids import pack
from gen.busbar.lab.v1.datapoints_pb import Datapoint


class Presenter:
    """Makes datapoints of stored numbers."""

    def __init__(self, events: EventDirectory, experiments: ExperimentDirectory) -> None:
        self._events = events
        self._experiments = experiments

    def datapoints(self, numbers: list[Number]) -> list[Datapoint]:
        """Return the datapoints of numbers; those of channels that are no events any more are left out."""
        return [self.datapoint(event, number) for number in numbers for event in self._events.by_channel(number.channel_id)]

    def datapoint(self, event: KnownEvent, number: Number) -> Datapoint:
        """Return the datapoint of an event's number."""
        return Datapoint(
            public_id=pack(number.channel_id, number.at_us, number.n),
            value=number.value,
            timestamp=to_exact_timestamp(number.at_us),
            event_public_id=event.public_id,
            experiment_public_id=self.experiment_id(event, number.at_us, number.recording_id),
        )

    def experiment_id(self, event: KnownEvent, at_us: int, recording_id: int | None) -> str | None:
        """Return the experiment to which a number belongs.

        Points that came by the lab say so themselves. Other points of linked channels belong to the experiment that was started
        last of those that ran at their time.
        """
        experiment = self._experiments.by_id(recording_id)
        if experiment is None and event.linked:
            experiment = self._experiments.at(event.org_id, at_us)
        return None if experiment is None else experiment.public_id
