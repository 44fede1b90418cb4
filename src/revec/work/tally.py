"""What became of claims, counted."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field


@dataclass(slots=True)
class Done:
    """What became of a claim."""

    written: int = 0
    copied: int = 0  # of those, without paying
    chunked: int = 0  # of those, in several chunks
    truncated: int = 0  # of those, without the end of their text
    removed: int = 0
    excluded: int = 0
    buried: int = 0
    superseded: int = 0
    embedded: int = 0  # texts sent to the model
    tokens: int = 0


@dataclass(slots=True)
class Summary(Done):
    """What a run did, and what a person has to look at."""

    stuck: list[str] = field(default_factory=list)

    @property
    def documents(self) -> int:
        return self.written + self.removed + self.excluded + self.buried + self.superseded

    def add(self, done: Done) -> None:
        for name, count in asdict(done).items():
            setattr(self, name, getattr(self, name) + count)
