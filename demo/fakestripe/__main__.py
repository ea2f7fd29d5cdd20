"""``python -m demo.fakestripe --port 12111``: the fake on this machine's time, or faster."""

import argparse
import asyncio
import contextlib
import time

from aiohttp import ClientSession, web

from demo.fakestripe import KEY, Endpoint, FakeStripe
from demo.fakestripe.controls import Controls
from demo.fakestripe.server import Server


class _Clock:
    """The wall clock, ``speed`` times as fast from the start of the process on, and ``behind_s`` behind until it
    catches up."""

    def __init__(self, speed: float, behind_s: int) -> None:
        self._start, self._speed, self._behind_s = time.time_ns(), speed, behind_s

    def wall_ns(self) -> int:
        now = self._start + round((time.time_ns() - self._start) * self._speed)
        return now - self._behind_s * 1_000_000_000

    def catch_up(self) -> None:
        self._behind_s = 0


async def _serve(args: argparse.Namespace) -> None:
    clock = _Clock(args.speed, args.behind)
    fake = FakeStripe(clock, args.seed, key=args.key)
    for thin, urls in ((False, args.webhook), (True, args.thin_webhook)):
        fake.webhooks.endpoints += [Endpoint(url, args.secret, thin) for url in urls]
    server = Server(fake)
    runner = web.AppRunner(server.application(Controls(fake, clock.catch_up).routes()))
    await runner.setup()
    await web.TCPSite(runner, args.host, args.port).start()
    print(f"fake Stripe on http://{args.host}:{args.port}, key {args.key}", flush=True)
    try:
        async with ClientSession() as session:
            while True:
                fake.run_due()
                await server.deliver(session)
                await asyncio.sleep(0.2)
    finally:
        await runner.cleanup()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m demo.fakestripe", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=12111)
    parser.add_argument("--key", default=KEY)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--speed", type=float, default=1.0, help="seconds of the fake per second")
    parser.add_argument("--behind", type=int, default=0, help="seconds of its clock, until POST /_fake/catch-up")
    parser.add_argument("--secret", default="whsec_fake", help="signs the webhooks")
    parser.add_argument("--webhook", action="append", default=[], help="URL for snapshot events")
    parser.add_argument("--thin-webhook", action="append", default=[], help="URL for thin events")
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(parser.parse_args()))


if __name__ == "__main__":
    main()
