"""Output: the terminal or the pipe that a command writes to."""

from __future__ import annotations

from rich.console import Console


class Output(Console):
    """Standard output. A reader that goes away (`longhand ask ... | head`) is an error like any other, which ends the
    run and its trace in order; rich would end the process."""

    def __init__(self) -> None:
        super().__init__(highlight=False)

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError
