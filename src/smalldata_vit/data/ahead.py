"""Steps made ahead of their use, in a thread."""

import queue
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial

from smalldata_vit.data.passes import Step


class Ahead:
    """Items `make(start)`, …, `make(stop - 1)` in groups, made in a thread a few items ahead of their use.

    Arguments:
        make: an item from its number.
        start: gives the number of the first item when iteration begins.
        stop: one more than the number of the last.
        ahead: items that wait for their use at most.
        at_once: items in a group.
    """

    def __init__(
        self, make: Callable[[int], Step], start: Callable[[], int], stop: int, ahead: int, at_once: int
    ) -> None:
        self.make, self.start, self.stop, self.ahead, self.at_once = make, start, stop, ahead, at_once

    def __iter__(self) -> "Iterator[Steps]":
        """Start the thread; an error in it is raised here, and leaving the loop ends it."""
        shelf, first = Shelf(self.ahead), self.start()
        work = partial(fill, shelf, self.make, range(first, self.stop))
        threading.Thread(target=work, daemon=True, name="draw ahead").start()
        try:
            for number in range(first, self.stop, self.at_once):
                yield Steps(shelf, min(self.at_once, self.stop - number))
        except GeneratorExit:  # not at the end: the last group may have been handed out before its items are used
            shelf.leave()
            raise


class Shelf:
    """Where one thread lays items down and another takes them, `ahead` of them at most.

    Two of Python's simplest queues, the second of free places: `queue.Queue` costs a short step a sixth of its time.
    """

    def __init__(self, ahead: int) -> None:
        self.made: queue.SimpleQueue[Step | BaseException] = queue.SimpleQueue()
        self.free: queue.SimpleQueue[None] = queue.SimpleQueue()
        self.left = False
        for _ in range(ahead):
            self.free.put(None)

    def take(self) -> Step:
        """The next item, waited for; what went wrong in making it is raised."""
        item = self.made.get()
        self.free.put(None)
        if isinstance(item, BaseException):
            raise item
        return item

    def leave(self) -> None:
        """No more items are wanted."""
        self.left = True
        self.free.put(None)


def fill(shelf: Shelf, make: Callable[[int], Step], numbers: range) -> None:
    """Lay down an item for each number, until nobody wants more."""
    try:
        for number in numbers:
            shelf.free.get()
            if shelf.left:
                return
            shelf.made.put(make(number))
    except BaseException as error:
        shelf.made.put(error)


class Steps:
    """The next few items of a shelf, one at a time: nothing is taken before it is asked for."""

    def __init__(self, shelf: Shelf, count: int) -> None:
        self.shelf, self.count = shelf, count
        self.waited = 0.0
        """Seconds spent waiting for items."""

    def __iter__(self) -> Iterator[Step]:
        try:
            for _ in range(self.count):
                asked = time.perf_counter()
                item = self.shelf.take()
                self.waited += time.perf_counter() - asked
                yield item
        except GeneratorExit:
            self.shelf.leave()
            raise
