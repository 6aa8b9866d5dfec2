"""A server started, put under load for some seconds after a warm-up that does not count, and ended. `rows` are requests
that were answered, or tokens that were written; `p50_ms` and `p99_ms` say how long an answer took."""

import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
WARM = 1.0  # seconds


def bodies(settings):
    if "prompts" in settings:
        common = {"max_tokens": settings["most"], "temperature": 0.8, "seed": 0}
        return "/v1/completions", [json.dumps({"prompt": prompt, **common}) for prompt in settings["prompts"]]
    key, path = ("inputs", "/v1/predict") if settings["server"] == "jichu" else ("text", "/predict")
    some = settings["texts"]
    return path, [json.dumps({key: [text] if key == "inputs" else text}) for text in some]


def started(settings, port):
    if settings["server"] == "jichu":
        command = ["-m", "jichu", "serve", settings["run"], "--port", str(port)]
        command += ["--set", f"precision={settings.get('precision', 'float32')}", *settings.get("more", ())]
    else:
        command = [str(HERE / f"serve_{settings['server']}.py"), settings["run"] + "/model", str(port)]
    process = subprocess.Popen(
        [sys.executable, *command],
        stdout=subprocess.DEVNULL,
        stderr=open(Path(settings["folder"]) / "log", "w"),  # noqa: SIM115
        start_new_session=True,  # so that it ends with all processes that it starts
    )
    for _ in range(600):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 60) as asked:
            asked.sendall(b"GET / HTTP/1.0\r\n\r\n")  # one that listens may not answer yet
            if asked.recv(1):
                return process
        if process.poll() is not None:
            break
        time.sleep(0.2)
    process.kill()
    raise RuntimeError((Path(settings["folder"]) / "log").read_text()[-2000:])


def length_of(head):
    """Of the body that an answer's head tells."""
    return int(re.search(rb"content-length: (\d+)", head, re.I)[1])


async def load(port, path, given, clients, seconds):
    """Clients that each ask one request after the other. Gives the seconds and the answer of each."""
    found, until = [], time.perf_counter() + seconds

    async def client(number):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        turn = number
        while time.perf_counter() < until:
            body = given[turn % len(given)].encode()
            turn += 1
            head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            begun = time.perf_counter()
            writer.write(head.encode() + body)
            answer = await reader.readuntil(b"\r\n\r\n")
            content = await reader.readexactly(length_of(answer))
            found.append((time.perf_counter() - begun, int(answer.split()[1]), content))
        writer.close()

    await asyncio.gather(*map(client, range(clients)))
    return found


def by_asyncio(port, path, given, settings):
    asyncio.run(load(port, path, given, settings["clients"], WARM))
    begun = time.perf_counter()
    found = asyncio.run(load(port, path, given, settings["clients"], settings["seconds"]))
    seconds = time.perf_counter() - begun
    times, right = (
        sorted(time for time, _, _ in found),
        [content for _, code, content in found if code == 200],
    )
    tokens = "prompts" in settings
    rows = sum(json.loads(c)["usage"]["completion_tokens"] for c in right) if tokens else len(right)
    place = {f"p{p}_ms": 1000 * times[min(len(times) - 1, len(times) * p // 100)] for p in (50, 99)}
    return {
        "rows": rows,
        "seconds": seconds,
        "failed_requests": len(found) - len(right),
        "load_by": "asyncio",
        **place,
    }


def by_wrk(port, path, given, settings):
    script = Path(settings["folder"]) / "load.lua"
    texts = ",\n".join(f"[==[{body}]==]" for body in given)
    script.write_text(
        f'local given = {{{texts}}}\nlocal turn = 0\nwrk.method = "POST"\nwrk.headers["Content-Type"] = "application/json"\n'
        "request = function()\n  turn = turn % #given + 1\n  return wrk.format(nil, nil, nil, given[turn])\nend\n"
    )

    def wrk(seconds):
        command = [
            "wrk",
            "-t1",
            f"-c{settings['clients']}",
            f"-d{seconds}s",
            "--latency",
            "--timeout",
            "60s",
            "-s",
            str(script),
        ]
        return subprocess.run(
            [*command, f"http://127.0.0.1:{port}{path}"], capture_output=True, text=True, check=True
        ).stdout

    wrk(int(WARM))
    said = wrk(settings["seconds"])
    units = {"us": 1e-3, "ms": 1.0, "s": 1e3, "m": 6e4}
    place = {
        f"p{p}_ms": float(value) * units[unit]
        for p, value, unit in re.findall(r"^\s*(50|99)%\s+([\d.]+)(us|ms|s|m)$", said, re.M)
    }
    count, seconds, unit = re.search(r"(\d+) requests in ([\d.]+)(ms|s|m),", said).groups()
    wrong = sum(map(int, re.findall(r"Non-2xx or 3xx responses: (\d+)", said)))
    lost = sum(map(int, re.findall(r"(?:connect|read|write|timeout) (\d+)", said)))
    rows = int(count) - wrong
    return {
        "rows": rows,
        "seconds": float(seconds) * units[unit] / 1e3,
        "failed_requests": wrong + lost,
        "load_by": "wrk",
        **place,
    }


def main():
    settings = json.loads(sys.argv[1])
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = started(settings, port)
    try:
        path, given = bodies(settings)
        measure = by_wrk if shutil.which("wrk") and "texts" in settings else by_asyncio
        print(json.dumps(measure(port, path, given, settings)))
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
        with contextlib.suppress(ProcessLookupError):  # those of LitServe outlive the first of them
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


if __name__ == "__main__":
    main()
