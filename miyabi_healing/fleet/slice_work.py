"""Work on one slice: a thread asks hosts, and here the store is told, while the slice is ours."""

from __future__ import annotations

import contextlib
import random
import threading
from collections import deque
from collections.abc import Callable
from queue import Empty, SimpleQueue

from miyabi_healing.fleet.lease import LeaseWatch, longest_absence
from miyabi_healing.fleet.store import NO_ANSWER, FleetStore, StoreError
from miyabi_healing.fleet.worker import Worker, WorkerError
from miyabi_healing.model.rollout import Answer, Claim, HostState

_LONGEST_END = 30.0  # seconds for a worker that was cancelled
_LONGEST_WAIT = 0.5  # seconds, so that signals and the clock are heeded


class _Lost(Exception):
    """The slice is somebody else's, or soon can be."""


class SliceWork:
    def __init__(
        self,
        store: FleetStore,
        worker: Worker,
        claim: Claim,
        sent: float,
        told: Callable[[Answer], None],
        clock: Callable[[], float],
    ) -> None:
        """`sent` is when the slice was asked for, by `clock`."""
        self._store, self._worker, self._claim = store, worker, claim
        self._told, self._clock = told, clock
        self._lease = LeaseWatch(sent, claim.lease, clock)
        self._renew_at = sent + claim.lease / 3
        self._try_at = sent  # not before: the store was away
        self._failing_since: float | None = None  # it has kept no answer
        self._heard: SimpleQueue[Answer | None] = SimpleQueue()  # None: the worker has ended
        self._kept: deque[Answer] = deque()  # what the store has not got yet
        self._silent = dict.fromkeys(claim.slice.hosts)  # nothing was told of them
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._ask_hosts, daemon=True)

    def do(self) -> None:
        """All of it, or until it is lost. Raises what the worker raised, StoreError,
        KeyboardInterrupt.
        """
        at_work = bool(self._claim.slice.hosts)  # else only the end was not written down
        try:
            if self._lease.is_over():  # this process has stood still meanwhile
                raise _Lost
            if at_work:
                self._thread.start()
            while at_work or self._kept:
                at_work = self._hear() and at_work
                self._keep_up()
            if self._error is not None:
                raise self._error
            self._finish()
        except _Lost:
            self._end_worker()
            self.hand_over()
        except BaseException:
            self._end_worker()
            self.hand_over()
            raise

    def hand_over(self) -> None:
        """Tell what is known and give the slice back, as far as the store can be reached, and the
        slice is nobody else's.
        """
        while not self._heard.empty():
            if (answer := self._heard.get()) is not None:
                self._kept.append(answer)
        with contextlib.suppress(StoreError):
            while self._kept:
                if not self._store.record(self._claim, self._kept[0]):
                    return
                self._have_told(self._kept.popleft())
        with contextlib.suppress(StoreError):  # hosts of which nothing was kept say it again
            self._store.release(self._claim)

    def _ask_hosts(self) -> None:
        try:
            self._worker.work(self._claim, self._heard.put, self._lease.is_over)
        except BaseException as error:
            self._error = error
        finally:
            self._heard.put(None)

    def _hear(self) -> bool:
        """Wait for what is next. False when the worker has ended."""
        now = self._clock()
        due = max(self._renew_at, self._try_at)
        if self._kept:
            due = min(due, self._try_at)
        seconds = min(max(due - now, 0), _LONGEST_WAIT)
        with contextlib.suppress(Empty):
            answer = self._heard.get(timeout=seconds)
            if answer is None:
                return False
            self._kept.append(answer)
        return True

    def _keep_up(self) -> None:
        """Renew the lease if it is time, and have the store keep one answer. Raises _Lost; the last
        StoreError of a store that renews the lease and keeps no answer.
        """
        now = self._clock()
        if self._lease.is_over():
            raise _Lost
        if now < self._try_at:
            return
        try:
            if now >= self._renew_at:
                if not self._store.renew(self._claim):
                    raise _Lost
                self._lease.renewed(now)
                self._renew_at = now + self._claim.lease / 3
            if self._kept:
                if not self._store.record(self._claim, self._kept[0]):
                    raise _Lost
                self._have_told(self._kept.popleft())
            self._failing_since = None
        except StoreError:
            if self._failing_since is None:
                self._failing_since = now
            elif self._kept and now - self._failing_since >= longest_absence(self._claim.lease):
                raise
            # full jitter: all coordinators have lost it at once
            self._try_at = self._clock() + random.uniform(0, self._claim.lease / 10)

    def _finish(self) -> None:
        """Raises _Lost, also where the worker ended because it was told to."""
        while not self._lease.is_over():
            try:
                if not self._store.finish(self._claim):
                    raise _Lost
            except StoreError:
                self._lease.wait(random.uniform(0, self._claim.lease / 10))
                continue
            for host in self._silent:
                self._told(Answer(host, HostState.UNREACHABLE, message=NO_ANSWER))
            return
        raise _Lost

    def _end_worker(self) -> None:
        """It is waited for: two at a time would ask more hosts than one may. Raises WorkerError."""
        self._lease.end()
        if self._thread.ident is not None:
            self._thread.join(_LONGEST_END)
            if self._thread.is_alive():
                raise WorkerError(
                    f"what asks the hosts did not end in {_LONGEST_END:g} s. End ansible-playbook "
                    "by hand; its slice is free when the lease has run out"
                )

    def _have_told(self, answer: Answer) -> None:
        self._silent.pop(answer.host, None)
        self._told(answer)
