"""Numbers that a person lists on a command line of the reports."""

from collections.abc import Callable
from typing import TypeVar

Number = TypeVar("Number", int, float)


def numbers(option: str, text: str, kind: Callable[[str], Number]) -> list[Number]:
    """The different numbers of a list with commas, in their order; ValueError names the option."""
    try:
        return list(dict.fromkeys(kind(one) for one in text.split(",")))
    except ValueError as error:
        what = "whole numbers" if kind is int else "numbers"
        raise ValueError(f"{option} {text}: {what} with commas between them, for example {option} 0,1,2") from error
