"""Work on one slice: a thread asks hosts, and here the store is told, while the slice is ours."""

from __future__ import annotations

import contextlib
import random
import threading
from collections import deque
from collections.abc import Callable, Sequence
from queue import SimpleQueue

from miyabi_healing.fleet.lease import LeaseWatch, longest_absence
from miyabi_healing.fleet.store import NO_ANSWER, FleetStore, StoreError
from miyabi_healing.fleet.worker import Worker, WorkerError
from miyabi_healing.model.rollout import Answer, Claim, HostState

_LONGEST_END = 30.0  # seconds for a worker that was cancelled
_ASKED_EVERY = 0.05  # seconds, between two looks whether that one has ended


class _Lost(Exception):
    """The slice is somebody else's, or soon can be."""


class SliceWork:
    """Several can be in hand at a time: none waits for anything but the store."""

    def __init__(
        self,
        store: FleetStore,
        worker: Worker,
        claim: Claim,
        sent: float,
        told: Callable[[Answer], None],
        news: threading.Event,
        clock: Callable[[], float],
    ) -> None:
        """`sent` is when the slice was asked for, by `clock`; `news` is set when the worker has
        told something.
        """
        self._store, self._worker, self.claim = store, worker, claim
        self._told, self._news, self._clock = told, news, clock
        self._lease = LeaseWatch(sent, claim.lease, clock)
        self._renew_at = sent + claim.lease / 3
        self._try_at = sent  # not before: the store was away
        self._end_by: float | None = None  # it is lost; its worker has to have ended then
        self._failing_since: float | None = None  # the store has kept nothing
        self._heard: SimpleQueue[Answer | None] = SimpleQueue()  # None: the worker has ended
        self._at_work = bool(claim.slice.hosts)  # else only the end was not written down
        self._kept: deque[Answer] = deque()  # what the store has not got yet
        self._silent = dict.fromkeys(claim.slice.hosts)  # nothing was told of them
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._ask_hosts, daemon=True)

    def begin(self) -> None:
        # not where this process has stood still since it asked for the slice
        if self._at_work and not self._lease.is_over():
            self._thread.start()

    def go_on(self) -> bool:
        """Do what is due now. False where the slice is done, or was lost and is handed over. Raises
        what the worker raised, and StoreError; `end_all` is to be called then.
        """
        if self._end_by is None:
            try:
                return self._keep_up()
            except _Lost:
                self.cancel()
        if self._thread.is_alive():
            if self._end_by is not None and self._clock() >= self._end_by:
                raise WorkerError(_DID_NOT_END)
            return True
        self.hand_over()
        return False

    def due(self) -> float:
        """When to go on, by the clock, where there are no news before."""
        if self._end_by is not None:
            return self._clock() + _ASKED_EVERY
        if self._kept or not self._at_work:
            return self._try_at
        return max(self._renew_at, self._try_at)

    def cancel(self) -> None:
        """Tell the worker to end."""
        self._lease.end()
        if self._end_by is None:
            self._end_by = self._clock() + _LONGEST_END

    def end(self) -> None:
        """Wait for a worker that was told to end, and hand over. Raises WorkerError."""
        if self._thread.ident is not None:
            self._thread.join(_LONGEST_END)
            if self._thread.is_alive():  # a second one would ask more hosts than one may
                raise WorkerError(_DID_NOT_END)
        self.hand_over()

    def hand_over(self) -> None:
        """Tell what is known and give the slice back, as far as the store can be reached, and the
        slice is nobody else's.
        """
        self._hear()
        with contextlib.suppress(StoreError):
            while self._kept:
                if not self._store.record(self.claim, self._kept[0]):
                    return
                self._have_told(self._kept.popleft())
        with contextlib.suppress(StoreError):  # hosts of which nothing was kept say it again
            self._store.release(self.claim)

    def _ask_hosts(self) -> None:
        try:
            self._worker.work(self.claim, self._put, self._lease.is_over)
        except BaseException as error:
            self._error = error
        finally:
            self._put(None)

    def _put(self, answer: Answer | None) -> None:
        self._heard.put(answer)
        self._news.set()

    def _hear(self) -> None:
        while not self._heard.empty():
            answer = self._heard.get()
            if answer is None:
                self._at_work = False
            else:
                self._kept.append(answer)

    def _keep_up(self) -> bool:
        """Renew the lease if it is time, and have the store keep one answer, or the end. False at
        the end. Raises _Lost, also where the worker ended because it was told to; the last
        StoreError of a store that renews the lease and keeps nothing else.
        """
        self._hear()
        now = self._clock()
        if self._lease.is_over():
            raise _Lost
        if now < self._try_at:
            return True
        if self._error is not None and not self._at_work and not self._kept:
            raise self._error
        try:
            if now >= self._renew_at:
                if not self._store.renew(self.claim):
                    raise _Lost
                self._lease.renewed(now)
                self._renew_at = now + self.claim.lease / 3
            is_done = self._keep_one()
            self._failing_since = None
            return not is_done
        except StoreError:
            if self._failing_since is None:
                self._failing_since = now
            elif now - self._failing_since >= longest_absence(self.claim.lease):
                raise
            # full jitter: all coordinators have lost it at once
            self._try_at = self._clock() + random.uniform(0, self.claim.lease / 10)
            return True

    def _keep_one(self) -> bool:
        """Whether all is kept, and the slice is done. Raises _Lost, StoreError."""
        if self._kept:
            if not self._store.record(self.claim, self._kept[0]):
                raise _Lost
            self._have_told(self._kept.popleft())
        elif not self._at_work:
            if not self._store.finish(self.claim):
                raise _Lost
            for host in self._silent:
                self._told(Answer(host, HostState.UNREACHABLE, message=NO_ANSWER))
            return True
        return False

    def _have_told(self, answer: Answer) -> None:
        self._silent.pop(answer.host, None)
        self._told(answer)


_DID_NOT_END = (
    f"what asks the hosts did not end in {_LONGEST_END:g} s. End ansible-playbook by hand; its "
    "slice is free when the lease has run out"
)


def end_all(works: Sequence[SliceWork]) -> None:
    """End their workers, and hand over all of them. Raises WorkerError where one does not end."""
    for each in works:
        each.cancel()
    with contextlib.ExitStack() as stack:  # each, whatever the others do
        for each in works:
            stack.callback(each.end)
