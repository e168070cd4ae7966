"""What several test files need: a death at a chosen moment, and the one line that a mistake gets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest

from sabsim.cli import main


class Killed(BaseException):
    """Stands for a kill: nothing may catch it and tidy up."""


@pytest.fixture
def killed_at() -> Callable[[Any, str, int], AbstractContextManager[None]]:
    """`with killed_at(owner, name, calls)`: call number `calls` of that function dies before it does anything."""

    @contextmanager
    def killed_at(owner: Any, name: str, calls: int) -> Iterator[None]:
        original, count = getattr(owner, name), iter(range(1, 1_000_000))

        def dying(*arguments: Any, **options: Any) -> Any:
            if next(count) == calls:
                raise Killed
            return original(*arguments, **options)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(owner, name, dying)
            with pytest.raises(Killed):
                yield

    return killed_at


@pytest.fixture
def mistake(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """The one line that a mistake gets."""

    def mistake(*arguments: str) -> str:
        assert main(arguments) == 2
        shown = capsys.readouterr()
        assert shown.err.count("\n") == 1, shown.err
        assert shown.err.startswith("sabsim: ")
        return shown.err.removeprefix("sabsim: ").rstrip("\n")

    return mistake
