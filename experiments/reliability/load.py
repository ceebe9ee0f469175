"""Does the server lose anything, or swell, under clients that are many, slow, broken or greedy?

Command:   python experiments/reliability/load.py --out=experiments/reliability/results/load [--minutes=10]
Hardware:  any; so many minutes on two cores

A tiny model is trained and served in a process of its own, with 4 rows and a queue of 12. For so many minutes good
clients ask for greedy texts, each of which has one right answer, whole or as a stream, and come again when they are
told to (429). Beside them, all the time:

    slow     send a head or a body byte by byte, or read their answer a little at a time
    broken   leave in the middle of a request or of an answer, send what is no HTTP, no JSON, no UTF-8, another host's
             name, a page's origin
    greedy   ask for more tokens, rows, bytes than there are, in as many requests as they can

Nothing may be lost: every good client gets its right text, each bad request an answer of 4xx or the end of its
connection, and at the end the queue is empty. The memory, open files and threads of the last quarter are held to those
of the second.
"""

import argparse
import asyncio
import contextlib
import json
import random
import re
import tempfile
import time
from collections import Counter
from pathlib import Path

import endurance
import runs

ROWS, QUEUE, MOST_BODY = 4, 12, 20_000
PROMPTS = ["the nature", "of truth ", "is a line", "and number", "in time with"]
BAD_BODIES = [
    *[b"", b"{", b"[1]", b'{"prompt": 3}', b'{"prompt": "the", "max_tokens": -1}', b"\xff\xfe", b"[" * 5_000],
    *[b'{"prompt": "the", "no": 1}', b'{"prompt": "\\ud800"}', b'{"prompt": "the", "temperature": 1e999}'],
]
GREEDY = [
    {"max_tokens": 10**9},
    {"n": 10**6},
    {"prompt": ["the"] * 500},
    {"prompt": "the " * 4_000},
    {"stop": ["."] * 99},
]
MOST = {"megabytes": 30, "files": 40, "threads": 2}  # open files: clients are connected


class Load:
    """The clients and what they have seen."""

    def __init__(self, port: int, seconds: float):
        self.port, self.end, self.counts, self.wrong = port, time.monotonic() + seconds, Counter(), []
        self.right: dict[str, str] = {}

    def request(self, body: bytes, **headers: str) -> bytes:
        lines = {"Host": "localhost", "Content-Length": str(len(body)), "Connection": "close"} | headers
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        return f"POST /v1/completions HTTP/1.1\r\n{head}\r\n".encode() + body

    @contextlib.asynccontextmanager
    async def connection(self):
        reader, writer = await asyncio.wait_for(asyncio.open_connection("127.0.0.1", self.port), 60)
        try:
            yield reader, writer
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def sent(self, content: bytes) -> bytes:
        async with self.connection() as (reader, writer):
            writer.write(content)
            return await asyncio.wait_for(reader.read(), 300)

    async def text(self, prompt: str, stream: bool, rng: random.Random) -> str:
        """The text that a good client gets in the end."""
        body = json.dumps({"prompt": prompt, "max_tokens": 24, "temperature": 0, "stream": stream}).encode()
        while True:
            answer = await self.sent(self.request(body))
            head, _, rest = answer.partition(b"\r\n\r\n")
            if head.startswith(b"HTTP/1.1 429 "):
                self.counts["told to come again"] += 1
                wait = int(re.search(rb"retry-after: (\d+)", head, re.IGNORECASE)[1])  # pyright: ignore
                await asyncio.sleep(wait * rng.uniform(0.2, 1))
                continue
            if not head.startswith(b"HTTP/1.1 200 "):
                return f"answered {head[:60]!r}"
            if not stream:
                return json.loads(rest)["choices"][0]["text"]
            events = re.findall(rb"data: (\{.*\})", rest)
            return "".join(json.loads(event)["choices"][0]["text"] for event in events if b'"text"' in event)

    async def good(self, number: int) -> None:
        rng = random.Random(number)
        while time.monotonic() < self.end:
            prompt = rng.choice(PROMPTS)
            found = await self.text(prompt, rng.random() < 0.5, rng)
            right = found == self.right[prompt]
            self.counts["good, right" if right else "good, WRONG"] += 1
            if not right:
                self.wrong.append(f"{prompt!r}: {found[:80]!r}")

    async def slow(self, number: int) -> None:
        rng, whole = random.Random(number), self.request(b'{"prompt": "the", "max_tokens": 200, "stream": true}')
        while time.monotonic() < self.end:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                async with self.connection() as (reader, writer):
                    how = rng.randrange(3)
                    part = whole if how == 2 else whole[: len(whole) - rng.randrange(1, 60 if how else len(whole) - 9)]
                    for at in range(0, len(part), 7):  # byte by byte, and then no more
                        writer.write(part[at : at + 7])
                        await asyncio.sleep(0.02)
                    for _ in range(rng.randrange(40)):
                        if not await asyncio.wait_for(reader.read(8), 90):
                            break
                        await asyncio.sleep(0.1)
            self.counts["slow"] += 1

    async def broken(self, number: int) -> None:
        rng = random.Random(number)
        while time.monotonic() < self.end:
            how = rng.randrange(5)
            good = self.request(b'{"prompt": "the", "max_tokens": 300, "stream": true}')
            with contextlib.suppress(OSError):
                if how == 0:  # leaves in the middle of a request
                    async with self.connection() as (_, writer):
                        writer.write(good[: rng.randrange(len(good))])
                elif how == 1:  # leaves in the middle of an answer
                    async with self.connection() as (reader, writer):
                        writer.write(good)
                        await asyncio.wait_for(reader.read(rng.randrange(1, 400)), 300)
                elif how == 2:
                    noise = bytes(rng.randrange(256) for _ in range(rng.randrange(1, 300)))
                    self.held("noise", await self.sent(noise + b"\r\n\r\n"), True)
                elif how == 3:
                    self.held("no request", await self.sent(self.request(rng.choice(BAD_BODIES))))
                else:
                    other = rng.choice([{"Host": "evil.example"}, {"Origin": "http://evil.example"}])
                    self.held("another's page", await self.sent(self.request(b'{"prompt": "the"}', **other)))
            self.counts["broken"] += 1
            await asyncio.sleep(0.05)

    async def greedy(self, number: int) -> None:
        rng = random.Random(number)
        while time.monotonic() < self.end:
            with contextlib.suppress(OSError):
                if rng.random() < 0.3:
                    large = self.request(b"x", **{"Content-Length": str(MOST_BODY * rng.randrange(2, 10**6))})
                    self.held("a large body", await self.sent(large))
                else:
                    body = json.dumps({"prompt": "the", **rng.choice(GREEDY)}).encode()
                    self.held("much", await self.sent(self.request(body)))
            self.counts["greedy"] += 1
            await asyncio.sleep(0.05)

    def held(self, what: str, answer: bytes, closed: bool = False) -> None:
        """Note an answer that is neither 4xx nor, where it may be, the end of the connection."""
        if not (re.match(rb"HTTP/1.1 4\d\d ", answer) or (closed and not answer)):
            self.counts["bad, NOT REFUSED"] += 1
            self.wrong.append(f"{what}: {answer[:80]!r}")

    async def run(self) -> None:
        rng = random.Random(0)
        for prompt in PROMPTS:
            self.right[prompt] = await self.text(prompt, False, rng)
        kinds = [(self.good, 6), (self.slow, 6), (self.broken, 4), (self.greedy, 3)]
        await asyncio.gather(*(kind(number) for kind, many in kinds for number in range(many)))


def main() -> None:
    flags = argparse.ArgumentParser()
    flags.add_argument("--out", type=Path, required=True)
    flags.add_argument("--minutes", type=float, default=10.0)
    options = flags.parse_args()
    results = runs.Results(options.out / "results.json", f"load.py --minutes={options.minutes:g}")
    with tempfile.TemporaryDirectory() as folder:
        scratch, kind = Path(folder), runs.KINDS["transformer"]
        trained = runs.start("main", kind.flags(scratch, runs.write_text(scratch / "text.txt")), scratch / "cache")
        _, err = trained.communicate(timeout=600)
        assert trained.returncode == 0, err
        limits = [
            f"--rows={ROWS}",
            f"--queue={QUEUE}",
            f"--max_body={MOST_BODY}",
            "--max_tokens=400",
            "--max_prompt=500",
        ]
        flags_ = [f"--workdir={scratch / 'run'}", "--port=0", *limits]
        with open(scratch / "err", "w") as err:
            server = runs.start("serve", flags_, scratch / "cache", err=err)
        assert server.stdout
        server.stdout.readline()
        port = int(re.search(r":(\d+);", server.stdout.readline())[1])  # pyright: ignore
        load, looks = Load(port, 60 * options.minutes), []

        async def watched() -> dict:
            asked = asyncio.create_task(load.run())
            while not asked.done():
                looks.append(endurance.seen(server.pid))
                await asyncio.sleep(0.5)
            await asked
            await asyncio.sleep(2)
            head = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
            return json.loads((await load.sent(head)).partition(b"\r\n\r\n")[2])

        health = asyncio.run(watched())
        server.terminate()
        server.communicate(timeout=120)
        said = (scratch / "err").read_text()
    quarter = lambda n: looks[len(looks) * n // 4 : len(looks) * (n + 1) // 4]
    most = {f"{what}, quarter {n + 1}": max(look[what] for look in quarter(n)) for what in MOST for n in range(4)}
    flat = all(most[f"{what}, quarter 4"] <= most[f"{what}, quarter 2"] + more for what, more in MOST.items())
    idle = health["queued"] == 0 and health["busy"] == 0
    sound = flat and idle and not load.wrong and server.returncode == 143 and "Traceback" not in said
    values = {"minutes": options.minutes, "sound": sound, "flat": flat, "idle at the end": idle} | dict(load.counts)
    results.add("load", **values, **most, exit=server.returncode, wrong=load.wrong[:20], stderr_bytes=len(said))
    print(json.dumps(results.rows["load"], indent=1))
    raise SystemExit(not sound)


if __name__ == "__main__":
    main()
