"""What Invert keeps of a visit: the trials of its pictures, and which inversion is shown, edited and saved."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from ...inversion.inversion import Inversion
from ..frames import Picture
from ..turns import Turns
from .targets import PromptEdits
from .trial import Trial

TAB = "invert"  # its name among those of the visit
MAX_KEPT = 8  # trials of one visit


@dataclass(frozen=True)
class InvertedEdit:
    """One target prompt of edits of an inverted picture: all that is needed to have it on show again. trial: that the
    inversion belongs to."""

    trial: Trial
    edits: PromptEdits
    prompt: str


@dataclass
class InvertState:
    """jobs: requests to invert, edit or study, of which the newest replaces all others. trial: the one that is shown,
    among `kept`, the last few. chosen: the method whose inversion is edited and saved. edits: of that inversion.
    opened: the picture that came with a file, and its pixels in the file's model. suggested: the last source prompt
    that was. target_offered: the last target prompt that was written for the visitor. noted: the inversion that the
    remarks on edits are about. returning: an edit of the history was asked for, which is shown when the tab is opened.
    """

    jobs: Turns = field(default_factory=Turns)
    trial: Trial | None = None
    kept: list[Trial] = field(default_factory=list)
    chosen: str | None = None
    opened: tuple[Picture, Tensor] | None = None
    suggested: str = ""
    target_offered: str = ""
    edits: PromptEdits | None = None
    noted: Inversion | None = None
    returning: bool = False

    def show(self, trial: Trial | None) -> None:
        """Another trial, or none."""
        if trial is not self.trial:
            if self.trial is not None:
                self.trial.left = self.chosen, self.edits
            self.trial = trial
            self.chosen, self.edits = (None, None) if trial is None else trial.left
        if trial is not None:
            self.kept = [*(other for other in self.kept if other is not trial), trial][-MAX_KEPT:]

    def return_to(self, edit: InvertedEdit) -> None:
        """An edit of the history is on show again, and its inversion is the one that is edited and saved."""
        self.jobs.begin()
        self.show(edit.trial)
        self.chosen, self.edits, self.returning = edit.edits.inversion.method, edit.edits, True
        edit.edits.shown = edit.prompt

    @property
    def inversion(self) -> Inversion | None:
        """The one that is edited and saved."""
        result = None if self.trial is None else self.trial.results.get(self.chosen or "")
        return None if result is None else result.inversion
