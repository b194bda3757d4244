"""A headless Chromium, driven over its debugging protocol through two pipes: pages, screenshots,
preferences of the reader, and what the page asks for.
"""

import base64
import json
import os
import select
import signal
import subprocess
import time

# How long the browser may take for one answer.
ANSWER_S = 30
# The largest message is a screenshot.
READ_BYTES = 1 << 20
# Where Chromium reads commands and writes answers.
COMMANDS_FD, ANSWERS_FD = 3, 4
ARGUMENTS = ["--headless=new", "--remote-debugging-pipe", "--disable-gpu", "--disable-dev-shm-usage",
             "--disable-extensions", "--disable-background-networking", "--no-first-run", "--hide-scrollbars"]


class BrowserError(RuntimeError):
    """The browser or a script of the test has failed."""


class Browser:
    """One browser with one page. `folder` gets its profile and its log."""

    def __init__(self, program, folder):
        commands, self.commands = os.pipe()
        self.answers, answers = os.pipe()
        arguments = [program, *ARGUMENTS, f"--user-data-dir={folder / 'profile'}", "about:blank"]
        if os.geteuid() == 0:
            # The browser's own sandbox does not start as root.
            arguments.insert(1, "--no-sandbox")
        # The numbers of the pipes are made in a shell: code between fork and exec may not be safe.
        shell = f'exec {COMMANDS_FD}<&{commands} {ANSWERS_FD}>&{answers} "$@"'
        with open(folder / "browser.log", "wb") as log:
            self.process = subprocess.Popen(["bash", "-c", shell, "browser", *map(str, arguments)],
                                            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            pass_fds=[commands, answers], start_new_session=True)
        os.close(commands)
        os.close(answers)
        self.rest, self.number, self.events, self.session = b"", 0, [], None
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.send(f"{domain}.enable")

    def send(self, method, **parameters):
        """Sends a command. Returns its result."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.commands, json.dumps(message).encode() + b"\0")
        give_up = time.monotonic() + ANSWER_S
        while True:
            answer = self.read(give_up)
            if answer.get("id") == self.number:
                if "error" in answer:
                    raise BrowserError(f"{method}: {answer['error']['message']}")
                return answer["result"]
            self.events.append(answer)

    def read(self, give_up):
        """The next message."""
        while b"\0" not in self.rest:
            left = give_up - time.monotonic()
            if left <= 0 or not select.select([self.answers], [], [], left)[0]:
                raise BrowserError(f"no answer within {ANSWER_S} s")
            read = os.read(self.answers, READ_BYTES)
            if not read:
                raise BrowserError("the browser has ended; its log is beside its profile")
            self.rest += read
        message, self.rest = self.rest.split(b"\0", 1)
        return json.loads(message)

    def open(self, url):
        """Opens a page, and waits until it is loaded."""
        self.events.clear()
        self.send("Page.navigate", url=url)
        self.wait_for("document.readyState === 'complete' && location.href !== 'about:blank'", url)

    def run(self, script):
        """The value of a script, which may be a promise."""
        result = self.send("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in result:
            raise BrowserError(json.dumps(result["exceptionDetails"])[:2000])
        return result["result"].get("value")

    def wait_for(self, script, what, seconds=ANSWER_S):
        """Waits until the value of a script is true."""
        give_up = time.monotonic() + seconds
        while not self.run(script):
            if time.monotonic() > give_up:
                raise BrowserError(f"{what}: not within {seconds} s")
            time.sleep(0.05)

    def prefer(self, scheme, width, height=900):
        """Sets the reader's colours and the width of the window."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.send("Emulation.setEmulatedMedia", features=features)
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def press(self, key):
        """Presses a key."""
        code = {"Tab": 9, "Enter": 13}[key]
        text = {"text": "\r"} if key == "Enter" else {}
        for kind in ("keyDown", "keyUp"):
            self.send("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, **text)

    def screenshot(self, file):
        """Writes a picture of the page from its top to its end."""
        shot = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        file.write_bytes(base64.b64decode(shot["data"]))

    def requested(self):
        """The URLs that the page has asked for."""
        sent = [one for one in self.events if one.get("method") == "Network.requestWillBeSent"]
        return [one["params"]["request"]["url"] for one in sent]

    def complaints(self):
        """Errors of scripts, and what the content security policy has stopped."""
        errors = [one["params"] for one in self.events if one.get("method") == "Runtime.exceptionThrown"]
        entries = [one["params"]["entry"] for one in self.events if one.get("method") == "Log.entryAdded"]
        return [json.dumps(one)[:500] for one in errors + entries]

    def close(self):
        """Ends the browser and its processes."""
        os.close(self.commands)
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            pass
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()
        os.close(self.answers)
