"""Things that are done at the same time, while somebody looks after them."""

import queue
import threading
from typing import Callable, Generic, Iterator, List, Optional, Sequence, Tuple, TypeVar

_Result = TypeVar("_Result")
# How long nobody looks.
_SECONDS = 0.5
# Each thread has one, and the deepest of ours needs far less.
_STACK_BYTES = 512 * 1024


class _Thread(threading.Thread, Generic[_Result]):
    def __init__(self, function: Callable[[], _Result], ended: "queue.Queue[int]", number: int) -> None:
        # The process ends without those that still wait for a file system that hangs.
        super().__init__(daemon=True)
        self._function, self._ended, self._number = function, ended, number
        self.result: List[_Result] = []
        self.error: Optional[BaseException] = None

    def run(self) -> None:
        try:
            self.result.append(self._function())
        except BaseException as error:  # noqa: BLE001 - it is raised where the result is asked for
            self.error = error
        self._ended.put(self._number)


def as_they_end(
    check: Callable[[], None], functions: Sequence[Callable[[], _Result]]
) -> Iterator[Tuple[int, _Result]]:
    """Call all functions at the same time; yield the number and the result of each as it ends.

    ``check`` is called again and again meanwhile, and before each result is looked at: it may raise. What a function
    raises is raised here.
    """
    ended: "queue.Queue[int]" = queue.Queue()
    before = threading.stack_size(_STACK_BYTES)
    try:
        threads = [_Thread(function, ended, number) for number, function in enumerate(functions)]
        for thread in threads:
            thread.start()
    finally:
        threading.stack_size(before)
    left = len(threads)
    while left:
        try:
            number = ended.get(timeout=_SECONDS)
        except queue.Empty:
            check()
            continue
        check()
        left -= 1
        error = threads[number].error
        if error is not None:
            raise error
        yield number, threads[number].result[0]


def together(check: Callable[[], None], functions: Sequence[Callable[[], _Result]]) -> List[_Result]:
    """Call all functions at the same time; return their results in order once all have ended."""
    return [result for _, result in sorted(as_they_end(check, functions), key=lambda item: item[0])]
