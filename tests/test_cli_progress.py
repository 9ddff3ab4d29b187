"""What takes long says so where stderr is no terminal, and what does not says nothing."""

import pytest

from serving.cli.output import few, step_lines


def test_a_line_is_said_at_most_every_five_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    now = 100.0
    step = step_lines("measuring stages", 40, clock=lambda: now)
    for _ in range(40):
        now += 0.5
        step("stack")
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == "".join(
        f"[{seconds:5d} s] measuring stages, step {2 * seconds} of 40: stack\n" for seconds in (5, 10, 15, 20)
    )


def test_what_is_done_soon_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    now = 100.0
    step = step_lines("pipelines", clock=lambda: now)
    for _ in range(100):
        now += 0.04
        step("")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("names", "said"),
    [((), ""), (("a", "b", "c"), "a, b, c"), (tuple("abcdefghijklmnopqrs"), "a, b, c and 16 more")],
)
def test_long_lists_of_names_are_shortened(names: tuple[str, ...], said: str) -> None:
    assert few(names) == said
