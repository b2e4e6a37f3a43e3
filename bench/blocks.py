"""How a layer is measured: whoever is measured takes turns, in blocks of calls, round after round.

A block begins with a pause, because the threads of most peers go on spinning for a while after a call and would take the cores
from the next; and with calls that do not count, because the pause has let caches and clock go cold."""

import dataclasses
import gc
import time


@dataclasses.dataclass
class Pace:
    """How much is measured."""

    rounds: int = 3
    calls: int = 20  # at least, in a block
    block_seconds: float = 0.02  # quick layers are called more often than `calls`, up to this time
    slow_seconds: float = 0.05  # a call that takes longer is slow
    slow_calls: int = 3
    pause_seconds: float = 0.05

    def of(self, seconds):
        """(calls that do not count, calls that do) in a block, where a call takes about `seconds`."""
        if seconds > self.slow_seconds:
            calls = min(self.slow_calls, max(1, round(1 / seconds)))
            return 1 if seconds < 1 else 0, calls
        calls = max(self.calls, min(1000, round(self.block_seconds / max(seconds, 1e-9))))
        return max(2, calls // 10), calls


QUICK = Pace(rounds=1, calls=5, block_seconds=0.002, slow_calls=1, pause_seconds=0.01)


def about(call):
    """About how long a call takes, in seconds: the second one."""
    times = []
    for _ in range(2):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
        if times[-1] > 1:
            break
    return times[-1]


def block(call, dropped, calls):
    """The times of `calls` calls, in seconds."""
    clock, times = time.perf_counter_ns, []
    for _ in range(dropped):
        call()
    for _ in range(calls):
        start = clock()
        call()
        times.append(clock() - start)
    return [1e-9 * one for one in times]


def in_turns(calls, pace, beside, tell):
    """The times of every call of `calls` (name: function): name: [times of round 1, ...]. In each round another is first, and
    `beside` is called once. `tell` hears what comes next. A name whose call raises is left out: name: the exception."""
    names, times, failed = list(calls), {name: [] for name in calls}, {}
    for turn in range(pace.rounds):
        beside()
        first = turn * len(names) // pace.rounds
        for name in names[first:] + names[:first]:
            if name in failed:
                continue
            tell(turn, name)
            try:
                dropped_and_counted = pace.of(about(calls[name]))
                time.sleep(pace.pause_seconds)
                gc.disable()
                times[name].append(block(calls[name], *dropped_and_counted))
            except Exception as error:
                failed[name] = error
            finally:
                gc.enable()
    return {name: failed.get(name, times[name]) for name in names}
