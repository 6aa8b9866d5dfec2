"""What every peer reports: time from the first step on, with the first few steps told apart."""

import json
import time


class Stopwatch:
    """Made when the model is ready. `step(rows)` after each step says whether to go on; the first `warm`
    steps do not count, and after `steps` more it is enough (None: never)."""

    def __init__(self, warm, steps):
        self.warm, self.steps, self.taken = warm, steps, 0
        self.rows = 0
        self.made = self.started = time.perf_counter()
        self.first = self.stopped = None

    def step(self, rows):
        self.taken += 1
        now = time.perf_counter()
        if self.taken == 1:
            self.first = now - self.made
        if self.taken <= self.warm:
            self.started = now
        else:
            self.rows += rows
            self.stopped = now
        return self.steps is None or self.taken < self.warm + self.steps

    def elapsed(self):
        return time.perf_counter() - self.made

    def report(self, **more):
        seconds = (self.stopped or self.started) - self.started
        told = {"rows": self.rows, "seconds": seconds, "first_step_seconds": self.first}
        print(json.dumps(told | more), flush=True)
