"""A server under load, and treated badly (about 15 minutes on 2 cores; --parts for some of it):

clients   64 at once for a minute: requests a second, how long answers took, and what was refused; then with a queue of 16
memory    the same for ten minutes: how much the process holds, every five seconds, and the slope of that
rude      clients that hang up, send a byte a second, too much, too little or noise, beside polite ones
kill      kill -9 under load and a new start, again and again
swap      two versions of a model exchanged under load, again and again

Each answer with 200 is compared with what the model of its version says: a wrong one is a fault, and so is any other status
than 200, 429 and 503. Faults are printed, and the exit code is 1."""

import argparse
import asyncio
import atexit
import collections
import json
import random
import shutil
import signal
import socket
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
import results
import serving

from jichu.runs import Run

sys.path.insert(0, str(Path(__file__).parent / "peers"))
import serve

CLIENTS, ALLOWED, TOLERANCE = 64, (200, 429, 503), 1e-4
FAULTS = []


def fault(told):
    FAULTS.append(told)
    print(f"FAULT {told}", flush=True)


class Server:
    """`jichu serve` in a process of its own, at a port of its own; `expected` are the scores of each text by version."""

    def __init__(self, run, texts, **settings):
        self.run, self.texts, self.settings = Path(run), texts, settings
        self.expected = {}
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.folder = tempfile.mkdtemp()
        self.start()

    def start(self):
        begun = time.perf_counter()
        self.process = serve.started(
            {"server": "jichu", "run": str(self.run), "folder": self.folder, **self.settings}, self.port
        )
        atexit.register(self.process.kill)
        self.expect()
        return time.perf_counter() - begun

    def expect(self):
        """What the model that now lies in the folder says."""
        import jichu.ship.server.models as models

        run = Run(self.run)
        self.expected[models.version(run)] = [p["scores"] for p in run.predict(self.texts)]

    def bodies(self):
        return "/v1/predict", [json.dumps({"inputs": [text]}) for text in self.texts]

    def judge(self, what, found):
        """Statuses of (seconds, status, content, which text) by number, faults told."""
        wrong = 0
        for _, status, content, number in found:
            if status not in ALLOWED:
                fault(f"{what}: status {status}: {content[:200]}")
            if status == 200:
                answer = json.loads(content)
                mine = self.expected.get(answer["system_fingerprint"])
                told = answer["predictions"][0]["scores"]
                if mine is None or any(abs(mine[number][c] - told[c]) > TOLERANCE for c in told):
                    wrong += 1
        if wrong:
            fault(f"{what}: {wrong} wrong answers")
        return dict(collections.Counter(status for _, status, _, _ in found))

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        if (code := self.process.wait(60)) != 0:
            fault(f"it ended with {code}")
        shutil.rmtree(self.folder)


async def polite(port, path, bodies, clients, until, lost=None):
    """Clients that ask one request after the other, come again after a refusal as they are told, and connect again where
    `lost` counts connections that broke. Gives (seconds, status, content, which body) of each answer."""
    found = []

    async def client(turn):
        pair = None
        while not until():
            number = turn % len(bodies)
            body, begun = bodies[number].encode(), time.perf_counter()
            try:
                pair = pair or await asyncio.open_connection("127.0.0.1", port)
                head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
                pair[1].write(head.encode() + body)
                answer = await pair[0].readuntil(b"\r\n\r\n")
                content = await pair[0].readexactly(serve.length_of(answer))
            except (OSError, EOFError):
                if lost is None:
                    raise
                lost.append(begun)
                pair = None
                await asyncio.sleep(0.05)
                continue
            turn += 1
            status = int(answer.split()[1])
            found.append((time.perf_counter() - begun, status, content, number))
            if status in (429, 503):
                await asyncio.sleep(0.05)
        if pair:
            pair[1].close()

    await asyncio.gather(*map(client, range(clients)))
    return found


def within(seconds):
    end = time.perf_counter() + seconds
    return lambda: time.perf_counter() > end


def percentiles(found):
    times = [1000 * t for t, status, _, _ in found if status == 200]
    p50, p99, worst = np.percentile(times, [50, 99, 100])
    return {"p50_ms": p50, "p99_ms": p99, "worst_ms": worst}


# --- the parts


def clients(run, texts, given):
    seconds = 3 if given.quick else 60
    found = {}
    for name, settings in (("as it is", {}), ("a queue of 16", {"more": ["--set", "queue=16"]})):
        server = Server(run, texts, **settings)
        path, bodies = server.bodies()
        asyncio.run(polite(server.port, path, bodies, 8, within(1)))
        answers = asyncio.run(polite(server.port, path, bodies, CLIENTS, within(seconds)))
        statuses = server.judge(f"clients, {name}", answers)
        told = {
            "requests_per_second": statuses.get(200, 0) / seconds,
            "statuses": statuses,
            **percentiles(answers),
        }
        if shutil.which("wrk") and not settings:
            asked = {"folder": server.folder, "clients": CLIENTS, "seconds": seconds}
            by = serve.by_wrk(server.port, path, bodies, asked)
            told["by_wrk"] = {
                "requests_per_second": by["rows"] / by["seconds"], "failed": by["failed_requests"], "p50_ms": by["p50_ms"], "p99_ms": by["p99_ms"],
            }  # fmt: skip
            if by["failed_requests"]:
                fault(f"clients, by wrk: {by['failed_requests']} failed")
        server.end()
        found[name] = told
    return found


def memory(run, texts, given):
    seconds, every = (20, 1) if given.quick else (600, 5)
    server = Server(run, texts)
    path, bodies = server.bodies()
    process, held = psutil.Process(server.process.pid), []

    async def watch(until):
        while not until():
            held.append((time.perf_counter(), process.memory_info().rss / 2**20))
            await asyncio.sleep(every)

    async def both():
        until = within(seconds)
        told, *_ = await asyncio.gather(
            polite(server.port, path, bodies, CLIENTS // 2, until),
            polite(server.port, "/v1/embeddings", [json.dumps({"input": t}) for t in texts], 4, until),
            watch(until),
        )
        return told

    answers = asyncio.run(both())
    server.judge("memory", answers)
    server.end()
    later = np.array(held[len(held) // 5 :])  # after a fifth of the time
    slope = np.polyfit((later[:, 0] - later[0, 0]) / 60, later[:, 1], 1)[0]
    return {
        "requests": len(answers), "mib_at_first": held[0][1], "mib_after_a_fifth": later[0, 1], "mib_at_last": held[-1][1],
        "mib_most": max(m for _, m in held), "mib_per_minute": slope,
    }  # fmt: skip


async def rudely(port, path, body, until, rng):
    """One connection after the other that is not what it should be."""
    full = body.encode()
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    kinds = {
        "hangs up in the head": head.encode()[:40],
        "hangs up in the body": f"{head}Content-Length: {len(full)}\r\n\r\n".encode() + full[: len(full) // 2],
        "does not wait": f"{head}Content-Length: {len(full)}\r\n\r\n".encode() + full,
        "noise": bytes(rng.randrange(256) for _ in range(2000)),
        "a gigabyte told": f"{head}Content-Length: {2**30}\r\n\r\n".encode() + b"x" * 100_000,
        "a length of none": f"{head}Content-Length: -5\r\n\r\n".encode() + full,
        "a body that is no JSON": f"{head}Content-Length: 9\r\n\r\n".encode() + b'{"input":',
        "chunks without end": f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + b"ffffffff\r\n" + b"x" * 50_000,
        "slow": None,
    }  # fmt: skip
    count = 0
    while not until():
        kind = rng.choice(list(kinds))
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            if kinds[kind] is None:
                for byte in f"{head}Content-Length: {len(full)}\r\n\r\n".encode()[:5]:
                    writer.write(bytes([byte]))
                    await asyncio.sleep(1)
            else:
                writer.write(kinds[kind])
                await writer.drain()
                if rng.random() < 0.5:
                    await asyncio.wait_for(reader.read(100), 0.2)
            writer.close()
        except (OSError, TimeoutError):
            pass
        count += 1
    return count


def rude(run, texts, given):
    seconds = 5 if given.quick else 60
    server = Server(run, texts)
    path, bodies = server.bodies()
    rng = random.Random(0)

    async def both():
        until = within(seconds)
        rude = [rudely(server.port, path, bodies[0], until, rng) for _ in range(32)]
        answers, *counts = await asyncio.gather(polite(server.port, path, bodies, 16, until), *rude)
        return answers, sum(counts)

    answers, count = asyncio.run(both())
    statuses = server.judge("rude", answers)
    log = (Path(server.folder) / "log").read_text()
    if "Traceback" in log or '"status": 500' in log:
        fault("rude: the log tells of an error of ours")
    connections = len(psutil.Process(server.process.pid).net_connections())
    server.end()
    return {
        "rude_connections": count,
        "statuses": statuses,
        "connections_left": connections,
        **percentiles(answers),
    }


def kill(run, texts, given):
    times, lost = 2 if given.quick else 10, []
    server = Server(run, texts)
    path, bodies = server.bodies()

    async def both():
        over = asyncio.Event()
        asking = asyncio.create_task(polite(server.port, path, bodies, 16, over.is_set, lost))
        starts = []
        for _ in range(times):
            await asyncio.sleep(random.Random(len(starts)).uniform(0.5, 2))
            server.process.send_signal(signal.SIGKILL)
            server.process.wait()
            starts.append(await asyncio.to_thread(server.start))
        await asyncio.sleep(1)
        over.set()
        return await asking, starts

    answers, starts = asyncio.run(both())
    statuses = server.judge("kill", answers)
    server.end()
    return {
        "kills": times,
        "statuses": statuses,
        "connections_lost": len(lost),
        "seconds_to_start": statistics.median(starts),
    }


def swap(run, texts, given):
    times = 4 if given.quick else 30
    home = Path(tempfile.mkdtemp())
    versions = [home / "served", home / "other"]
    shutil.copytree(run, versions[0])
    serving.labels(versions[1], seed=1)
    shutil.copytree(versions[0] / "model", home / "first")
    server = Server(versions[0], texts)
    path, bodies = server.bodies()

    async def both():
        over = asyncio.Event()
        asking = asyncio.create_task(polite(server.port, path, bodies, 32, over.is_set))
        log = Path(server.folder) / "log"
        for turn in range(times):
            for file in ("model.safetensors", "config.json"):
                shutil.copy(
                    (versions[1] / "model", home / "first")[turn % 2] / file, versions[0] / "model" / file
                )
            server.expect()
            server.process.send_signal(signal.SIGHUP)
            for _ in range(600):
                if log.read_text().count("model read again") > turn:
                    break
                await asyncio.sleep(0.05)
            else:
                fault("swap: the model was not read again within 30 seconds")
        over.set()
        return await asking

    answers = asyncio.run(both())
    statuses = server.judge("swap", answers)
    if len(server.expected) != 2 or set(statuses) != {200}:
        fault(f"swap: {len(server.expected)} versions, statuses {statuses}")
    by = collections.Counter(json.loads(content)["system_fingerprint"] for _, _, content, _ in answers)
    server.end()
    shutil.rmtree(home)
    return {
        "swaps": times,
        "statuses": statuses,
        "answers_by_version": sorted(by.values()),
        **percentiles(answers),
    }


PARTS = {part.__name__: part for part in (clients, memory, rude, kill, swap)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="some seconds of each")
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=list(PARTS))
    given = parser.parse_args()
    rng = random.Random(1)
    run, texts = serving.labels(), [serving.sentence(rng) for _ in range(64)]
    told = {}
    for name in given.parts:
        told[name] = PARTS[name](run, texts, given)
        print(f"{name}: {json.dumps(told[name], default=float)}", flush=True)
    if not given.quick and "clients" in told:
        rows = [
            {"system": name, "value": part["requests_per_second"], "low": None, "high": None}
            for name, part in told["clients"].items()
        ]
        results.write("under_load", "requests a second of 64 clients", rows, parts=told, faults=FAULTS)
    return 1 if FAULTS else 0


if __name__ == "__main__":
    sys.exit(main())
