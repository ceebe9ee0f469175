"""Many clients at once against one server: who is served, how fast, and whether memory and threads stay flat.

python experiments/serve/load.py --workdir=runs/tiny [--requests=200] [--tokens=100] [--slots=8] [--rounds=3]

Three ways to ask for the same texts: one after the other; all at once with a queue for all; all at once with a short
queue, where who is refused (429) waits as long as Retry-After says and comes again. Every text of the second and third
way is held to the one of its seed in the first. Client and server share this machine.
"""

import argparse
import asyncio
import json
import random
import re
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]


class Server:
    """The command in a process of its own, with what the system says of it."""

    def __init__(self, workdir: str, slots: int, queue: int, block: int):
        flags = [f"--workdir={workdir}", "--port=0", f"--slots={slots}", f"--queue={queue}", f"--block={block}"]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "juliagpt_jax.serve", *flags], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout
        self.about = self._process.stdout.readline().strip()
        found = re.search(r":(\d+);", self._process.stdout.readline())
        if not found:
            sys.exit("the server did not start")
        self.port = int(found[1])

    def size(self) -> tuple[float, int]:
        """Resident MiB, threads."""
        status = Path(f"/proc/{self._process.pid}/status").read_text(encoding="utf-8")
        number = lambda name: int(re.search(rf"^{name}:\s+(\d+)", status, re.MULTILINE)[1])  # pyright: ignore
        return round(number("VmRSS") / 1024, 1), number("Threads")

    def stop(self) -> int:
        self._process.terminate()
        return self._process.wait(60)


async def ask(port: int, seed: int, tokens: int) -> tuple[str, float, int]:
    """The text, the seconds until it was there, and how often the server was too busy."""
    begun, refused = time.perf_counter(), 0
    body = json.dumps({"prompt": "the ", "max_tokens": tokens, "seed": seed, "temperature": 0.8}).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    while True:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(head.encode() + body)
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        headers, _, text = answer.partition(b"\r\n\r\n")
        if headers.startswith(b"HTTP/1.1 200 "):
            return json.loads(text)["choices"][0]["text"], time.perf_counter() - begun, refused
        if not headers.startswith(b"HTTP/1.1 429 "):
            raise SystemExit(f"seed {seed}: {answer[:300]!r}")
        refused += 1
        wait = int(re.search(rb"retry-after: (\d+)", headers, re.IGNORECASE)[1])  # pyright: ignore
        await asyncio.sleep(wait * random.uniform(1, 1.5))  # not all at the same moment


async def together(port: int, seeds: list[int], tokens: int) -> list[tuple[str, float, int]]:
    return await asyncio.gather(*(ask(port, seed, tokens) for seed in seeds))


async def in_turn(port: int, seeds: list[int], tokens: int) -> list[tuple[str, float, int]]:
    return [await ask(port, seed, tokens) for seed in seeds]


def row(way: str, server: Server, before: tuple, answers: list, seconds: float, right: bool) -> dict:
    waits = sorted(wait for _, wait, _ in answers)
    values = {
        "way": way,
        "requests": len(answers),
        "texts_right": right,
        "refused": sum(refused for *_, refused in answers),
        "requests_per_s": round(len(answers) / seconds, 2),
        "chars_per_s": round(sum(len(text) for text, *_ in answers) / seconds),
        "p50_s": round(waits[len(waits) // 2], 3),
        "p95_s": round(waits[int(0.95 * (len(waits) - 1))], 3),
        "rss_mib": [before[0], server.size()[0]],
        "threads": [before[1], server.size()[1]],
    }
    print(json.dumps(values), flush=True)
    return values


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # pyright: ignore
    flags.add_argument("--workdir", required=True)
    flags.add_argument("--requests", type=int, default=200)
    flags.add_argument("--tokens", type=int, default=100)
    flags.add_argument("--slots", type=int, default=8)
    flags.add_argument("--block", type=int, default=8)
    flags.add_argument("--short", type=int, default=32, help="the short queue")
    flags.add_argument("--rounds", type=int, default=3, help="of all at once; only memory may differ")
    options = flags.parse_args()
    seeds, expected = list(range(options.requests)), {}
    for queue, ways in [(options.requests, ["in turn", *["together"] * options.rounds]), (options.short, ["refused"])]:
        server = Server(options.workdir, options.slots, queue, options.block)
        print(json.dumps({"server": server.about, "queue": queue, "block": options.block}), flush=True)
        asyncio.run(together(server.port, [0, 1], 8))  # what a first request makes
        for way in ways:
            before, begun = server.size(), time.perf_counter()
            call = in_turn if way == "in turn" else together
            answers = asyncio.run(call(server.port, seeds, options.tokens))
            seconds = time.perf_counter() - begun
            texts = {seed: text for seed, (text, *_) in zip(seeds, answers, strict=True)}
            expected = expected or texts
            row(way, server, before, answers, seconds, texts == expected)
        print(json.dumps({"exit_code": server.stop()}), flush=True)


if __name__ == "__main__":
    main()
