"""A headless Chromium, spoken to through a pipe in its DevTools protocol; nothing else is needed."""

import base64
import json
import os
import shutil
import subprocess
import time

FOUND = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
_FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-background-networking --disable-component-update --no-first-run"
    " --disable-sync --disable-default-apps --hide-scrollbars --disable-dev-shm-usage"
)
_PATIENCE = 60.0  # seconds


class Browser:
    """One page at a time; what it asked for is in `requests`, dialogs it opened in `dialogs`."""

    def __init__(self, profile):
        (theirs_in, ours_out), (ours_in, theirs_out) = os.pipe(), os.pipe()
        command = f'exec "{FOUND}" {_FLAGS} --user-data-dir="{profile}" --remote-debugging-pipe 3<&{theirs_in} 4>&{theirs_out}'
        self._process = subprocess.Popen(
            ["bash", "-c", command],
            pass_fds=(theirs_in, theirs_out),
            stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        os.set_blocking(ours_in, False)
        self._in, self._out, self._rest, self._count, self._session = ours_in, ours_out, b"", 0, None
        self.requests, self.dialogs, self._events = [], [], []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime"):
            self.call(f"{domain}.enable")

    def close(self):
        self._process.kill()
        self._process.wait()
        os.close(self._in)
        os.close(self._out)

    def until(self, expression, seconds=10):
        """Wait for something to be so on the page."""
        end = time.monotonic() + seconds
        while not self.value(f"!!({expression})"):
            assert time.monotonic() < end, self.value("document.body.innerText")
            time.sleep(0.02)

    def call(self, method, **parameters):
        """The result of a command; events that come meanwhile are kept."""
        self._count += 1
        message = {"id": self._count, "method": method, "params": parameters}
        message |= {"sessionId": self._session} if self._session else {}
        os.write(self._out, json.dumps(message).encode() + b"\0")
        return self._until(lambda told: told.get("id") == self._count)["result"]

    def _until(self, wanted):
        end = time.monotonic() + _PATIENCE
        while time.monotonic() < end:
            while b"\0" in self._rest:
                line, _, self._rest = self._rest.partition(b"\0")
                told = json.loads(line)
                if told.get("method") == "Network.requestWillBeSent":
                    self.requests.append(told["params"]["request"]["url"])
                if told.get("method") == "Page.javascriptDialogOpening":
                    self.dialogs.append(told["params"]["message"])
                if wanted(told):
                    return told
            try:
                self._rest += os.read(self._in, 2**20)
            except BlockingIOError:
                time.sleep(0.01)
        raise TimeoutError("the browser does not answer")

    def open(self, place, width=1280, dark=False, media=""):
        """Show a file, or what is at an address, as on a screen so wide; with `media` as printed."""
        self.requests.clear()
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=844,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", media=media, features=[scheme])
        os.write(self._out, b"")
        self._navigate(place if isinstance(place, str) else place.resolve().as_uri())

    def _navigate(self, url):
        self._count += 1
        message = {
            "id": self._count,
            "method": "Page.navigate",
            "params": {"url": url},
            "sessionId": self._session,
        }
        os.write(self._out, json.dumps(message).encode() + b"\0")
        self._until(lambda told: told.get("method") == "Page.loadEventFired")

    def value(self, expression):
        """Of JavaScript, as JSON has it."""
        return self.call("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def pdf(self):
        return base64.b64decode(self.call("Page.printToPDF", printBackground=False)["data"])
